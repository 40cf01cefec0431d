"""Well-formed events that are not true, and how each must be given up."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from services.chassis import wire
from services.chassis.topology import Subscription
from tests.faults.message_cases import Case
from tests.faults.message_detour import opened, send
from tests.faults.message_letters import Letters
from tests.property.house import CUSTOMER
from tests.support.cluster import Cluster
from tests.support.operator import Operator

NOBODY: Final = str(CUSTOMER.user_id)
"""Who has no account in the cluster."""

CALLED: Final[Mapping[str, str]] = {
    "OrderCreatedEvent": "Created",
    "InventoryReservedEvent": "Reserved",
    "InventoryReservationFailedEvent": "Short",
    "PaymentProcessedEvent": "Processed",
    "PaymentFailedEvent": "Failed",
    "OrderConfirmedEvent": "Confirmed",
    "OrderCancelledEvent": "Cancelled",
    "OrderShippedEvent": "Shipped",
    "OrderDeliveredEvent": "Delivered",
    "InventoryReleasedEvent": "Released",
    "PaymentVoidedEvent": "Voided",
    "PaymentRefundedEvent": "Refunded",
}
BELIEVED: Final = frozenset(
    {
        "inventory.on_order_created",
        "inventory.on_order_cancelled",
        "payments.on_inventory_reserved",
        "payments.on_order_cancelled",
        "orders.on_product_changed",
    }
)
"""Who cannot know that there is no such order."""


@dataclass(frozen=True)
class Lie:
    """An untrue event for one handler, and how it is given up."""

    handler: str
    event: Mapping[str, Any]
    kind: str = "alarm"
    reason: str = ""


def untrue(event_type: str, order_id: str, **fields: Any) -> dict[str, Any]:
    """An event about the order as nobody has published it."""
    event: dict[str, Any] = wire.decode(wire.encode(Case("", UUID(order_id)).event(CALLED[event_type])))
    return {**event, **fields}


def lie_about_nothing(to: Subscription) -> Lie:
    """About an order and a customer that do not exist."""
    is_alarm = to.event == "OrderShippedEvent" and to.service == "inventory"
    kind, reason = ("alarm", "unknown") if is_alarm else ("lasting", "NotFound: ")
    return Lie(f"{to.service}.{to.method}", untrue(to.event, str(uuid4())), kind, reason)


def lies_about(order_id: str, cents: int) -> Iterator[Lie]:
    """About a Pending order over this amount: forged payments, and texts and numbers that no database takes."""
    paid, another = "orders.on_payment_processed", "the amount paid is not its total"
    forged = [(cents - 1, "EUR"), (cents, "USD"), (-cents, "EUR"), (0, "EUR"), (10**18, "EUR"), (10**30, "EUR")]
    for amount, currency in forged:
        event = untrue("PaymentProcessedEvent", order_id, amount_cents=amount, currency=currency)
        yield Lie(paid, event, reason=another)
    for handler, event_type in (
        ("orders.on_payment_failed", "PaymentFailedEvent"),
        ("orders.on_reservation_failed", "InventoryReservationFailedEvent"),
    ):
        yield Lie(handler, untrue(event_type, order_id, reason="\0"), "lasting", "NUL")
    for handler, event_type in (
        ("orders.on_inventory_released", "InventoryReleasedEvent"),
        ("orders.on_payment_voided", "PaymentVoidedEvent"),
        ("orders.on_payment_refunded", "PaymentRefundedEvent"),
    ):
        yield Lie(handler, untrue(event_type, order_id), reason="in Pending")
    nobodys = untrue("InventoryReservedEvent", str(uuid4()))
    yield Lie("payments.on_inventory_reserved", {**nobodys, "currency": "\0"}, "lasting", "NUL")
    line = {**nobodys["items"][0], "quantity": 10_000, "unit_price_cents": 10**15}
    yield Lie(
        "payments.on_inventory_reserved",
        {**nobodys, "items": [line], "total_cents": 10**19},
        "lasting",
        "out of range",
    )


def tell(cluster: Cluster, operator: Operator, lies: list[Lie]) -> list[str]:
    """Put each before its handler; the ids of the events."""
    ids = [str(uuid4()) for _ in lies]
    with opened(operator) as channel:
        for event_id, lie in zip(ids, lies, strict=True):
            body = wire.encode({**lie.event, "event_id": event_id})
            to = cluster.subscription(lie.handler)
            send(channel, to, body, message_id=event_id, content_type="application/json", delivery_mode=2)
    return ids


def check_given_up(letters: Letters, lies: list[Lie], ids: list[str]) -> None:
    """Wait until all are dead letters; fails unless each is as it should be."""
    found = letters.wait_for(*ids)
    for event_id, lie in zip(ids, lies, strict=True):
        letter = found[event_id]
        assert (letter.handler, letter.kind) == (lie.handler, lie.kind), (lie, letter.reason)
        assert lie.reason in letter.reason, lie
        assert letter.failures == (5 if lie.kind == "lasting" else 1)
