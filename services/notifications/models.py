"""What is worth telling a customer, and when it may not be told any more.

There is at most one message per order, kind and channel. A failure and a cancellation are one kind, ``closing``: an
order ends badly once, and the first news of it counts.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from events import (
    CancelReason,
    InventoryReservationFailedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderDeliveredEvent,
    OrderEvent,
    OrderShippedEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
)


class Kind(StrEnum):
    """What a message is about."""

    CONFIRMATION = "confirmation"
    RECEIPT = "receipt"
    CLOSING = "closing"
    SHIPPING = "shipping"
    DELIVERY = "delivery"
    REFUND = "refund"

    @property
    def silenced_by(self) -> "tuple[Kind, ...]":
        """The kinds after which no message of this one is sent: itself, and what it would contradict."""
        return (self, Kind.CLOSING) if self is Kind.CONFIRMATION else (self,)


class Channel(StrEnum):
    """How a message travels."""

    EMAIL = "email"
    SMS = "sms"


TOLD_BY_THE_FAILURE: Final = frozenset({CancelReason.OUT_OF_STOCK, CancelReason.PAYMENT_FAILED})
"""Cancellations whose message is that of the failure which caused them."""


@dataclass(frozen=True)
class Notice:
    """Something to tell about one order: ``wording`` names the text, ``values`` fill it in."""

    event: OrderEvent
    kind: Kind
    wording: str
    values: Mapping[str, str]

    @property
    def order_id(self) -> UUID:
        """The order."""
        return self.event.order_id


@dataclass(frozen=True)
class Message:
    """One message to one person, ready to be delivered. ``name`` is None when it is not known."""

    channel: Channel
    order_id: UUID
    kind: Kind
    address: str
    name: str | None
    subject: str
    body: str

    @property
    def message_id(self) -> str:
        """The Message-ID; the same for every attempt to send this message."""
        return message_id(self.order_id, self.kind, self.channel)


def message_id(order_id: UUID, kind: Kind, channel: Channel) -> str:
    """The one Message-ID of this order's message of this kind (RFC 5322)."""
    return f"<{order_id}.{kind}@{channel}.notifications.oms.invalid>"


def notice_of(event: OrderEvent) -> Notice | None:
    """What this event is worth telling; None when another event's message tells it."""
    kind, word = NOTICES[type(event)]
    wording, values = word(event)
    return Notice(event, kind, wording, values) if wording else None


Wording = tuple[str, Mapping[str, str]]


def _of_shortage(_: InventoryReservationFailedEvent) -> Wording:
    return "out_of_stock", {}


def _of_payment(event: PaymentProcessedEvent) -> Wording:
    amount = money(event.amount_cents, event.currency)
    return "receipt", {"amount": amount, "transaction": one_line(event.transaction_id)}


def _of_failure(_: PaymentFailedEvent) -> Wording:
    return "payment_failed", {}


def _of_confirmation(event: OrderConfirmedEvent) -> Wording:
    lines = [
        f"  {line.quantity} x {one_line(line.product_name)}, {money(line.unit_price_cents, event.currency)} each"
        for line in event.items
    ]
    total = money(event.total_cents, event.currency)
    return "confirmation", {"lines": "\n".join(lines), "total": total}


def _of_cancellation(event: OrderCancelledEvent) -> Wording:
    reason = CancelReason(event.reason)
    return "" if reason in TOLD_BY_THE_FAILURE else f"cancelled_by_{reason}", {}


def _of_shipping(event: OrderShippedEvent) -> Wording:
    tracking = f"Tracking: {one_line(event.tracking)}\n" if event.tracking else ""
    return "shipping", {"tracking": tracking}


def _of_delivery(_: OrderDeliveredEvent) -> Wording:
    return "delivery", {}


def _of_refund(event: PaymentRefundedEvent) -> Wording:
    return "refund", {"amount": money(event.amount_cents, event.currency)}


NOTICES: Final[Mapping[type[OrderEvent], tuple[Kind, Callable[[Any], Wording]]]] = {
    InventoryReservationFailedEvent: (Kind.CLOSING, _of_shortage),
    PaymentProcessedEvent: (Kind.RECEIPT, _of_payment),
    PaymentFailedEvent: (Kind.CLOSING, _of_failure),
    OrderConfirmedEvent: (Kind.CONFIRMATION, _of_confirmation),
    OrderCancelledEvent: (Kind.CLOSING, _of_cancellation),
    OrderShippedEvent: (Kind.SHIPPING, _of_shipping),
    OrderDeliveredEvent: (Kind.DELIVERY, _of_delivery),
    PaymentRefundedEvent: (Kind.REFUND, _of_refund),
}
"""Which events are worth telling, the kind of message each is, and its words."""


def money(cents: int, currency: str) -> str:
    """An amount as people write it."""
    return f"{cents // 100}.{cents % 100:02d} {currency}"


def one_line(text: str) -> str:
    """The text without line breaks, so that nobody's product adds a line of its own to a message."""
    return " ".join(text.split())
