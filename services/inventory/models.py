"""Products, the stock of each, and what becomes of the part that is set aside for an order.

On hand and reserved stand on the product, and the database holds 0 <= reserved <= on hand; available is the difference.
Every movement of either leaves a row in the ledger, which nobody can change afterwards. What an event does to a
reservation says the table in ``transitions.py``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Identity, Index, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from events import (
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    InventoryReservedEvent,
    OrderCancelledEvent,
    OrderCreatedEvent,
    ProductChangedEvent,
    ReleaseOutcome,
    Shortage,
    outcome_id,
)
from services.chassis.errors import InvalidInput


class Base(DeclarativeBase):
    """The tables of ``inventoryservice_db``."""

    type_annotation_map: Final = {datetime: DateTime(timezone=True), UUID: Uuid, str: Text, int: BigInteger}


class Movement(StrEnum):
    """Why a level of a product moved.

    On hand is the sum of what was received, adjusted and shipped; reserved of what was reserved, released and shipped.
    """

    RECEIVED = "received"
    RESERVED = "reserved"
    RELEASED = "released"
    SHIPPED = "shipped"
    ADJUSTED = "adjusted"


class Product(Base):
    """Something to sell. ``product_version`` grows with every change of what the catalogue says, not with the stock."""

    __tablename__ = "products"
    __table_args__ = (
        CheckConstraint("reserved >= 0 AND reserved <= on_hand", name="products_stock"),
        CheckConstraint("unit_price_cents >= 0", name="products_price"),
        Index("products_name", "name", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str]
    description: Mapped[str]
    unit_price_cents: Mapped[int]
    currency: Mapped[str]
    active: Mapped[bool]
    on_hand: Mapped[int]
    reserved: Mapped[int]
    product_version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @classmethod
    def new(cls, values: Mapping[str, Any], *, currency: str, at: datetime) -> Self:
        """A product with no stock yet. Raises InvalidInput for another currency than the cluster's."""
        check_currency(values, currency)
        given = {"description": "", "active": True, **values, "currency": currency}
        return cls(id=uuid4(), **given, on_hand=0, reserved=0, product_version=1, created_at=at, updated_at=at)

    @property
    def available(self) -> int:
        """How many can still be set aside."""
        return self.on_hand - self.reserved

    def change(self, values: Mapping[str, Any], *, at: datetime) -> Sequence[ProductChangedEvent]:
        """Take over the values; no event when each of them is already so. Raises InvalidInput for a new currency."""
        check_currency(values, self.currency)
        changes = {name: value for name, value in values.items() if getattr(self, name) != value}
        if not changes:
            return ()
        for name, value in changes.items():
            setattr(self, name, value)
        self.product_version += 1
        self.updated_at = at
        return (self.changed(at=at),)

    def changed(self, *, at: datetime) -> ProductChangedEvent:
        """The event that tells what the catalogue says of this product now."""
        return ProductChangedEvent(
            occurred_at=at,
            product_id=self.id,
            name=self.name,
            unit_price_cents=self.unit_price_cents,
            currency=self.currency,
            active=self.active,
            product_version=self.product_version,
        )


def check_currency(values: Mapping[str, Any], currency: str) -> None:
    """Raise InvalidInput when the values name another currency: a cluster has one."""
    if values.get("currency", currency) != currency:
        errors = [{"pointer": "/currency", "detail": f"must be {currency}, the only one here"}]
        raise InvalidInput("validation_failed", "Prices are in one currency.", {"errors": errors})


class LedgerEntry(Base):
    """One movement of a product's stock, with the levels after it. A trigger refuses to change or delete it."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ledger_product", "product_id", "number"), Index("ledger_order", "order_id"))

    number: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    product_id: Mapped[UUID] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[str]
    delta: Mapped[int]
    on_hand_after: Mapped[int]
    reserved_after: Mapped[int]
    order_id: Mapped[UUID | None]
    actor: Mapped[str]
    reason: Mapped[str]
    event_id: Mapped[UUID | None]
    at: Mapped[datetime]


class Reservation(Base):
    """What inventory did about one order; ``shortages`` lists what was missing when it was rejected."""

    __tablename__ = "reservations"

    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    status: Mapped[str]
    shortages: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class ReservationItem(Base):
    """How many of a product were set aside for an order."""

    __tablename__ = "reservation_items"
    __table_args__ = (CheckConstraint("quantity > 0", name="reservation_items_quantity"),)

    order_id: Mapped[UUID] = mapped_column(ForeignKey("reservations.order_id"), primary_key=True)
    product_id: Mapped[UUID] = mapped_column(ForeignKey("products.id"), primary_key=True)
    quantity: Mapped[int]


def answers_to(
    order: OrderCreatedEvent, shortages: Sequence[Shortage] | None, *, at: datetime
) -> Sequence[InventoryReservedEvent | InventoryReservationFailedEvent]:
    """What becomes of an order's lines: all set aside, or every short one; nothing (None) when that was said before."""
    if shortages is None:
        return ()
    if shortages:
        failed = InventoryReservationFailedEvent(
            occurred_at=at,
            order_id=order.order_id,
            user_id=order.user_id,
            reason="out_of_stock",
            shortages=list(shortages),
        )
        return (failed,)
    reserved = InventoryReservedEvent(
        occurred_at=at,
        order_id=order.order_id,
        user_id=order.user_id,
        items=order.items,
        total_cents=order.total_cents,
        currency=order.currency,
        payment_method=order.payment_method,
    )
    return (reserved,)


def released(event: OrderCancelledEvent, outcome: ReleaseOutcome, *, at: datetime) -> InventoryReleasedEvent:
    """The event that tells that the order holds no stock, with the same id each time it is told."""
    return InventoryReleasedEvent(
        event_id=outcome_id(event.order_id, f"InventoryReleasedEvent:{outcome}"),
        occurred_at=at,
        order_id=event.order_id,
        user_id=event.user_id,
        outcome=outcome,
    )
