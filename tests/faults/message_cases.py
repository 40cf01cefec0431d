"""Six stories of an order, and what each service sees of them, in every order that it could."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, Final
from uuid import UUID, uuid4

import events
from events import CancelReason, OrderEvent, OrderLine, ReleaseOutcome, VoidOutcome
from services.orders.transitions import Trigger
from tests.property.house import PRODUCTS, event_of

MOST: Final = 7
"""So many deliveries and acts are permuted at most."""

CENTS: Final = 1_000
PLENTY, _, SCARCE = PRODUCTS
ACTS: Final = {
    "cancel": Trigger.CANCEL,
    "expire": Trigger.DEADLINE,
    "ship": Trigger.SHIP,
    "deliver": Trigger.DELIVER,
}
ASK: Final = "ask the processor"

SEEN: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "delivered": {
        "orders": ["Processed", "ship", "deliver"],
        "inventory": ["Created", "Shipped"],
        "payments": ["Reserved", ASK],
        "notifications": ["Processed", "Confirmed", "Shipped", "Delivered"],
    },
    "cancelled before it was paid": {
        "orders": ["cancel", "Released", "Voided"],
        "inventory": ["Created", "Cancelled", "Cancelled again"],
        "payments": ["Reserved", "Cancelled", ASK],
        "notifications": ["Cancelled"],
    },
    "cancelled after it was paid": {
        "orders": ["Processed", "cancel", "Released", "Refunded"],
        "payments": ["Reserved", ASK, "Cancelled", "Cancelled again", ASK],
        "notifications": ["Processed", "Confirmed", "Cancelled", "Refunded"],
    },
    "declined": {
        "orders": ["Failed", "Released", "Declined"],
        "payments": ["Reserved", "Cancelled", ASK],
        "notifications": ["Failed", "Cancelled by failure"],
    },
    "out of stock": {
        "orders": ["Short", "Released", "Voided"],
        "inventory": ["Created", "Cancelled", "Cancelled again"],
        "payments": ["Cancelled", "Cancelled again"],
        "notifications": ["Short", "Cancelled by failure"],
    },
    "expired": {
        "orders": ["Processed", "expire", "Released", "Refunded"],
        "notifications": ["Processed", "Expired", "Refunded"],
    },
}
"""What reaches a service in a story, and what else is done to it meanwhile. Where a service is missing, it sees what it
sees in another story."""


def each_once(steps: Sequence[str]) -> Iterator[Sequence[str]]:
    """Every order of the steps."""
    return iter(sorted(set(permutations(steps))))


def each_twice(steps: Sequence[str]) -> Iterator[Sequence[str]]:
    """Every order of the steps and of a second delivery of as many events as there is room for."""
    told = [step for step in steps if step not in (*ACTS, ASK)]
    return each_once([*steps, *told[: MOST - len(steps)]])


@dataclass
class Case:
    """One order of its own, whose events a service gets in one order."""

    story: str
    order_id: UUID = field(default_factory=uuid4)
    told: dict[str, OrderEvent] = field(default_factory=dict)

    @property
    def product_id(self) -> UUID:
        """What is bought."""
        return SCARCE if self.story == "out of stock" else PLENTY

    @property
    def method(self) -> str:
        """How it is paid."""
        return "pm_declined" if self.story == "declined" else "pm_ok"

    def event(self, name: str) -> OrderEvent:
        """The order's one event of that name."""
        if name not in self.told:
            kind, fields = self._described(name)
            self.told[name] = event_of(kind, self.order_id, **fields)
        return self.told[name]

    def _described(self, name: str) -> tuple[type[OrderEvent], dict[str, Any]]:
        line = OrderLine(product_id=self.product_id, product_name="Thing", quantity=2, unit_price_cents=CENTS)
        sale: dict[str, Any] = {"items": [line], "total_cents": 2 * CENTS, "currency": "EUR"}
        paid: dict[str, Any] = {"payment_id": uuid4(), "amount_cents": 2 * CENTS, "currency": "EUR"}
        cancelled: dict[str, Any] = {"reason": CancelReason.CUSTOMER, "cancelled_from": "Pending"}
        known: dict[str, tuple[type[OrderEvent], dict[str, Any]]] = {
            "Created": (events.OrderCreatedEvent, sale | {"payment_method": self.method}),
            "Reserved": (events.InventoryReservedEvent, sale | {"payment_method": self.method}),
            "Short": (events.InventoryReservationFailedEvent, {"reason": "out_of_stock", "shortages": []}),
            "Processed": (events.PaymentProcessedEvent, paid | {"transaction_id": "ch_1"}),
            "Failed": (events.PaymentFailedEvent, {"payment_id": uuid4(), "reason": "declined"}),
            "Confirmed": (events.OrderConfirmedEvent, sale),
            "Cancelled": (events.OrderCancelledEvent, cancelled),
            "Cancelled again": (events.OrderCancelledEvent, cancelled),
            "Cancelled by failure": (events.OrderCancelledEvent, cancelled | {"reason": CancelReason.PAYMENT_FAILED}),
            "Expired": (events.OrderCancelledEvent, cancelled | {"reason": CancelReason.EXPIRED}),
            "Shipped": (events.OrderShippedEvent, {}),
            "Delivered": (events.OrderDeliveredEvent, {}),
            "Released": (events.InventoryReleasedEvent, {"outcome": ReleaseOutcome.RELEASED}),
            "Voided": (events.PaymentVoidedEvent, {"outcome": VoidOutcome.NEVER_CHARGED}),
            "Declined": (events.PaymentVoidedEvent, {"outcome": VoidOutcome.DECLINED}),
            "Refunded": (events.PaymentRefundedEvent, paid | {"refund_id": "re_1"}),
        }
        return known[name]
