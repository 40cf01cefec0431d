"""The tables of orderservice_db whose rows have no life of their own, and what all its tables share.

``models.Order`` owns the lines and the history; the catalogue copy and the idempotency keys are written by
``repository.py`` alone.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self, TypeVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Text,
    TypeDecorator,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from events import MOST_CENTS, MOST_PIECES, Event, OrderLine
from services.chassis.auth import Principal
from services.orders.transitions import OrderStatus

Word = TypeVar("Word", bound=StrEnum)


class Base(DeclarativeBase):
    """Everything in orderservice_db but the chassis' own tables."""


class Words(TypeDecorator[Word]):
    """Text in the database, one of an enumeration's words in Python."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[Word]) -> None:
        super().__init__()
        self.words = words

    def process_result_value(self, value: str | None, dialect: Dialect) -> Word | None:
        """The enumeration's member."""
        return None if value is None else self.words(value)


def one_of(column: str, words: type[StrEnum]) -> str:
    """The SQL condition that the column has one of these words."""
    return f"{column} IN ({', '.join(repr(word.value) for word in words)})"


class OrderItem(Base):
    """A line of an order, with the name and price the product had when the order was placed."""

    __tablename__ = "order_items"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int]
    product_name: Mapped[str] = mapped_column(Text)
    quantity: Mapped[int]
    unit_price_cents: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        UniqueConstraint("order_id", "position", name="order_items_position_key"),
        CheckConstraint(f"quantity BETWEEN 1 AND {MOST_PIECES}", "order_items_quantity"),
        CheckConstraint(f"unit_price_cents BETWEEN 0 AND {MOST_CENTS}", "order_items_unit_price"),
    )

    @classmethod
    def of(cls, line: OrderLine, position: int) -> Self:
        """The line as a row."""
        return cls(
            product_id=line.product_id,
            position=position,
            product_name=line.product_name,
            quantity=line.quantity,
            unit_price_cents=line.unit_price_cents,
        )

    @property
    def line(self) -> OrderLine:
        """The row as events carry it."""
        return OrderLine(
            product_id=self.product_id,
            product_name=self.product_name,
            quantity=self.quantity,
            unit_price_cents=self.unit_price_cents,
        )


@dataclass(frozen=True)
class Cause:
    """Who or what changed an order, as its history tells it."""

    what: str
    actor: str
    at: datetime
    event_id: UUID | None = None
    actor_id: UUID | None = None

    @classmethod
    def event(cls, event: Event, now: datetime) -> Self:
        """Another service's event."""
        return cls(event.event_type, event.publisher, now, event_id=event.event_id)

    @classmethod
    def person(cls, what: str, person: Principal, now: datetime) -> Self:
        """Somebody over the API."""
        return cls(what, person.role, now, actor_id=person.user_id)

    @classmethod
    def clock(cls, what: str, now: datetime) -> Self:
        """A timer of this service."""
        return cls(what, "orders", now)


class HistoryEntry(Base):
    """What happened to an order, numbered from 1. Written once; the database refuses to change or delete it."""

    __tablename__ = "order_history"

    order_id: Mapped[UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    event: Mapped[str] = mapped_column(Text)
    event_id: Mapped[UUID | None]
    from_status: Mapped[OrderStatus | None] = mapped_column(Words(OrderStatus))
    to_status: Mapped[OrderStatus] = mapped_column(Words(OrderStatus))
    actor: Mapped[str] = mapped_column(Text)
    actor_id: Mapped[UUID | None]
    note: Mapped[str] = mapped_column(Text, server_default="")

    __table_args__ = (CheckConstraint("number >= 1", "order_history_number"),)


class Product(Base):
    """A product as inventory last described it."""

    __tablename__ = "catalogue"

    product_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    unit_price_cents: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    active: Mapped[bool]
    product_version: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (CheckConstraint(f"unit_price_cents BETWEEN 0 AND {MOST_CENTS}", "catalogue_unit_price"),)


class IdempotencyKey(Base):
    """The first answer to a request that carried a key, kept for a day."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(Text, primary_key=True)
    path: Mapped[str] = mapped_column(Text, primary_key=True)
    key: Mapped[str] = mapped_column(Text, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text)
    answer: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        CheckConstraint("length(key) BETWEEN 1 AND 255", "idempotency_keys_key"),
        Index("idempotency_keys_oldest", "created_at"),
    )
