"""What the API answers, as frozen dataclasses: money is Decimal, times are aware, ids are UUIDs.

A member that is not here is left aside, and an enumeration takes words it does not know, so that the API may grow.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final, Self, TypedDict
from uuid import UUID


class Word(StrEnum):
    """An enumeration that a later server may have added words to."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, str):
            return None
        word = str.__new__(cls, value)
        word._name_ = word._value_ = value
        return word

    @property
    def is_known(self) -> bool:
        """Whether this version of the client knows the word."""
        return self in list(type(self))


class OrderStatus(Word):
    """Where an order stands."""

    PENDING = "Pending"
    CONFIRMED = "Confirmed"
    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    CANCELLED = "Cancelled"

    @property
    def is_final(self) -> bool:
        """Whether it stays so."""
        return self in (OrderStatus.DELIVERED, OrderStatus.CANCELLED)

    def has_reached(self, wanted: "OrderStatus") -> bool:
        """Whether it is the wanted one, or lies beyond it on the way to Delivered."""
        return self == wanted or (self in WAY and wanted in WAY and WAY.index(self) > WAY.index(wanted))


WAY: Final = (OrderStatus.PENDING, OrderStatus.CONFIRMED, OrderStatus.SHIPPED, OrderStatus.DELIVERED)


class PaymentStatus(Word):
    """What is known of an order's money."""

    PENDING = "Pending"
    COMPLETED = "Completed"
    FAILED = "Failed"
    VOIDED = "Voided"
    REFUNDED = "Refunded"


class Role(Word):
    """What somebody may do."""

    CUSTOMER = "customer"
    STAFF = "staff"
    ADMIN = "admin"


class Action(Word):
    """What the caller may do with an order now."""

    CANCEL = "cancel"
    SHIP = "ship"
    DELIVER = "deliver"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A pair of tokens. The refresh token is good once: keep the newest pair only."""

    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    user_id: UUID
    expires_in: int
    received_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def expires_at(self) -> datetime:
        """Until when the access token is good."""
        return self.received_at + timedelta(seconds=self.expires_in)


@dataclass(frozen=True, kw_only=True)
class User:
    """An account; ``active`` is told to administrators only."""

    id: UUID
    email: str
    user_name: str
    first_name: str | None
    last_name: str | None
    phone: str | None
    role: Role
    created_at: datetime
    active: bool | None = None


@dataclass(frozen=True)
class Line:
    """A wish: so many of a product. With a ``price`` the order is refused when that is not the current one."""

    product_id: UUID
    quantity: int = 1
    price: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class OrderItem:
    """A line of an order, with the name and price that the server set."""

    product_id: UUID
    product_name: str
    quantity: int
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class Order:
    """An order as the caller sees it."""

    id: UUID
    user_id: UUID
    status: OrderStatus
    status_reason: str | None
    payment_status: PaymentStatus
    total_amount: Decimal
    currency: str
    shipping_address: str | None
    created_at: datetime
    updated_at: datetime
    items: tuple[OrderItem, ...]
    allowed_actions: tuple[Action, ...] = ()
    etag: str | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class OrderSummary:
    """An order as it stands in a list."""

    id: UUID
    user_id: UUID
    status: OrderStatus
    total_amount: Decimal
    currency: str
    created_at: datetime
    item_count: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that happened to an order in one service."""

    at: datetime
    service: str
    event: str
    event_id: UUID | None
    causation_id: UUID | None
    attempt: int | None
    outcome: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Journey:
    """What happened to an order in every service; those that kept silent are in ``missing``."""

    order_id: UUID
    status: OrderStatus
    deadline: datetime | None
    waiting_for: str | None
    steps: tuple[Step, ...]
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HistoryEntry:
    """One change of an order, as the live stream tells it; ``number`` is where to go on after it."""

    number: int
    event: str
    at: datetime
    from_status: OrderStatus | None = None
    to_status: OrderStatus | None = None
    actor: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Product:
    """A product and how many can be bought."""

    id: UUID
    name: str
    description: str
    price: Decimal
    currency: str
    available: int
    active: bool
    created_at: datetime
    updated_at: datetime
    etag: str | None = field(default=None, repr=False, compare=False)


class ProductOptions(TypedDict, total=False):
    """What an administrator may leave out of a new product."""

    description: str
    currency: str
    active: bool


class ProductChange(ProductOptions, total=False):
    """What an administrator may change of a product."""

    name: str
    price: Decimal


@dataclass(frozen=True, kw_only=True)
class LedgerEntry:
    """A movement of stock."""

    id: UUID
    kind: str
    delta: int
    on_hand_after: int
    reserved_after: int
    reason: str
    actor: str
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Stock:
    """The levels of a product's stock."""

    on_hand: int
    reserved: int
    available: int
