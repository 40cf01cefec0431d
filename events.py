"""The saga's vocabulary: every event that crosses RabbitMQ, who publishes it and what it tells.

An event is a fact in the past tense; it commands nobody. It leaves its publisher through the outbox, on the topic
exchange ``<publisher>.events`` with its class name as routing key, and reaches each subscriber at least once, in any
order, any number of times. Fields are only ever added, with a default; a consumer ignores those it does not know.

This file imports nothing but the standard library, so that anything may import it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID, uuid4, uuid5

OUTCOMES: Final = UUID("6f6d7300-0000-5000-8000-000000000001")
"""Namespace of the ids of outcome events, see :func:`outcome_id`."""

MOST_LINES: Final = 100
MOST_PIECES: Final = 10_000
MOST_CENTS: Final = 10**15
LONGEST_NOTE: Final = 500


def outcome_id(order_id: UUID, outcome: str) -> UUID:
    """The one id that this outcome of this order's saga ever has, so that telling it again changes nothing."""
    return uuid5(OUTCOMES, f"{order_id}:{outcome}")


def require(condition: bool, complaint: str) -> None:  # noqa: FBT001 - reads as a sentence at the call
    """Raise ``ValueError(complaint)`` unless the condition holds."""
    if not condition:
        raise ValueError(complaint)


class CancelReason(StrEnum):
    """Why an order was cancelled."""

    OUT_OF_STOCK = "out_of_stock"
    PAYMENT_FAILED = "payment_failed"
    CUSTOMER = "customer"
    STAFF = "staff"
    EXPIRED = "expired"


class ReleaseOutcome(StrEnum):
    """What cancelling an order did to the stock."""

    RELEASED = "released"
    NOTHING_RESERVED = "nothing_reserved"


class VoidOutcome(StrEnum):
    """Why a cancelled order has no money to give back."""

    NEVER_CHARGED = "never_charged"
    DECLINED = "declined"
    TIMEOUT = "timeout"


@dataclass(frozen=True, kw_only=True)
class OrderLine:
    """A product in an order, with the name and price it had when the order was placed."""

    product_id: UUID
    product_name: str
    quantity: int
    unit_price_cents: int

    def __post_init__(self) -> None:
        require(1 <= self.quantity <= MOST_PIECES, f"quantity must be from 1 to {MOST_PIECES}")
        require(0 <= self.unit_price_cents <= MOST_CENTS, "unit_price_cents must not be negative")


@dataclass(frozen=True, kw_only=True)
class Shortage:
    """A line that the stock could not serve: what was asked for and what there was."""

    product_id: UUID
    requested: int
    available: int


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event carries.

    ``correlation_id`` names the request that began it all, ``causation_id`` the event that caused this one (None for
    the first). Both are filled in by the unit of work that publishes it.
    """

    publisher: ClassVar[str]

    event_id: UUID = field(default_factory=uuid4)
    event_type: str = ""
    version: int = 1
    occurred_at: datetime
    correlation_id: str = ""
    causation_id: UUID | None = None

    def __post_init__(self) -> None:
        own = type(self).__name__
        require(self.event_type in ("", own), f"event_type must be {own}")
        object.__setattr__(self, "event_type", own)
        require(self.version == 1, "version must be 1, the only one this release knows")
        require(self.occurred_at.tzinfo is not None, "occurred_at needs a time zone")


@dataclass(frozen=True, kw_only=True)
class OrderEvent(Event):
    """What every event about one order carries besides."""

    order_id: UUID
    user_id: UUID


@dataclass(frozen=True, kw_only=True)
class OrderCreatedEvent(OrderEvent):
    """A customer placed an order; nothing is reserved or paid yet. Inventory answers with Reserved or Failed."""

    publisher: ClassVar[str] = "orders"

    items: list[OrderLine]
    total_cents: int
    currency: str
    payment_method: str
    shipping_address: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_items(self.items, self.total_cents)


@dataclass(frozen=True, kw_only=True)
class InventoryReservedEvent(OrderEvent):
    """Every line of the order is set aside. Payments charges ``total_cents`` next."""

    publisher: ClassVar[str] = "inventory"

    items: list[OrderLine]
    total_cents: int
    currency: str
    payment_method: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_items(self.items, self.total_cents)


@dataclass(frozen=True, kw_only=True)
class InventoryReservationFailedEvent(OrderEvent):
    """Not one line is set aside, because those in ``shortages`` (all of them) could not be."""

    publisher: ClassVar[str] = "inventory"

    reason: str
    shortages: list[Shortage]


@dataclass(frozen=True, kw_only=True)
class PaymentProcessedEvent(OrderEvent):
    """The processor took ``amount_cents``; ``transaction_id`` is its receipt."""

    publisher: ClassVar[str] = "payments"

    payment_id: UUID
    amount_cents: int
    currency: str
    transaction_id: str


@dataclass(frozen=True, kw_only=True)
class PaymentFailedEvent(OrderEvent):
    """The processor declined the charge, or never answered it and has promised not to make it any more."""

    publisher: ClassVar[str] = "payments"

    payment_id: UUID
    reason: str


@dataclass(frozen=True, kw_only=True)
class OrderConfirmedEvent(OrderEvent):
    """Stock is set aside and the money is there: the order will be sent."""

    publisher: ClassVar[str] = "orders"

    total_cents: int
    currency: str
    items: list[OrderLine]


@dataclass(frozen=True, kw_only=True)
class OrderCancelledEvent(OrderEvent):
    """The order is off, and whoever holds something for it gives it back. The only trigger of compensation.

    It may come again with a new id while stock or money has not been reported as given back.
    """

    publisher: ClassVar[str] = "orders"

    reason: CancelReason
    note: str = ""
    cancelled_from: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.note) <= LONGEST_NOTE, f"note must not be longer than {LONGEST_NOTE} characters")


@dataclass(frozen=True, kw_only=True)
class OrderShippedEvent(OrderEvent):
    """The goods left the house: what was reserved for the order is no longer on hand."""

    publisher: ClassVar[str] = "orders"

    tracking: str | None = None


@dataclass(frozen=True, kw_only=True)
class OrderDeliveredEvent(OrderEvent):
    """The goods arrived. The last thing that happens to a good order."""

    publisher: ClassVar[str] = "orders"


@dataclass(frozen=True, kw_only=True)
class InventoryReleasedEvent(OrderEvent):
    """A cancelled order holds no stock any more, and never will."""

    publisher: ClassVar[str] = "inventory"

    outcome: ReleaseOutcome


@dataclass(frozen=True, kw_only=True)
class PaymentVoidedEvent(OrderEvent):
    """A cancelled order was never charged, and never will be."""

    publisher: ClassVar[str] = "payments"

    outcome: VoidOutcome


@dataclass(frozen=True, kw_only=True)
class PaymentRefundedEvent(OrderEvent):
    """A cancelled order's money went back, all of it."""

    publisher: ClassVar[str] = "payments"

    payment_id: UUID
    refund_id: str
    amount_cents: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class ProductChangedEvent(Event):
    """The catalogue says this of a product from now on. Applied only over a smaller ``product_version``."""

    publisher: ClassVar[str] = "inventory"

    product_id: UUID
    name: str
    unit_price_cents: int
    currency: str
    active: bool
    product_version: int


def check_items(items: list[OrderLine], total_cents: int) -> None:
    """Raise ValueError unless the lines are as many as an order may have and add up to the total."""
    require(1 <= len(items) <= MOST_LINES, f"items must have from 1 to {MOST_LINES} lines")
    require(
        total_cents == sum(line.quantity * line.unit_price_cents for line in items),
        "total_cents must be the sum of quantity x unit_price_cents",
    )


ALL: Final[tuple[type[Event], ...]] = (
    OrderCreatedEvent,
    InventoryReservedEvent,
    InventoryReservationFailedEvent,
    PaymentProcessedEvent,
    PaymentFailedEvent,
    OrderConfirmedEvent,
    OrderCancelledEvent,
    OrderShippedEvent,
    OrderDeliveredEvent,
    InventoryReleasedEvent,
    PaymentVoidedEvent,
    PaymentRefundedEvent,
    ProductChangedEvent,
)
"""All thirteen, in the order of the saga's table."""
