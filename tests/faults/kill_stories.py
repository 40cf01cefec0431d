"""What must happen for a point to be passed, and how it must end: one story per event, call, route and timer."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final
from uuid import uuid4

from cli.doctor_reading import WITH_EVENTS
from tests.faults.kill_walk import Outcome, Walk

CONFIRMED: Final = Outcome(
    order=("Confirmed", None, "Completed"),
    payment="captured",
    charges=("charged",),
    movements=("reserved",),
    mails=("confirmation", "receipt"),
)
DELIVERED: Final = Outcome(
    order=("Delivered", None, "Completed"),
    payment="captured",
    charges=("charged",),
    movements=("reserved", "shipped"),
    mails=("confirmation", "delivery", "receipt", "shipping"),
)
REFUNDED: Final = Outcome(
    order=("Cancelled", "customer", "Refunded"),
    payment="refunded",
    charges=("charged",),
    refunds=1,
    movements=("reserved", "released"),
    mails=("closing", "confirmation", "receipt", "refund"),
)
DECLINED: Final = Outcome(
    order=("Cancelled", "payment_failed", "Failed"),
    payment="failed",
    charges=("declined",),
    movements=("reserved", "released"),
    mails=("closing",),
)
OUT_OF_STOCK: Final = Outcome(
    order=("Cancelled", "out_of_stock", "Voided"), payment="voided", charges=(), movements=(), mails=("closing",)
)
ABANDONED: Final = Outcome(
    order=("Cancelled", "payment_failed", "Failed"),
    payment="failed",
    charges=("abandoned",),
    movements=("reserved", "released"),
    mails=("closing",),
)
EXPIRED: Final = Outcome(
    order=("Cancelled", "expired", "Failed"),
    payment="failed",
    charges=("abandoned",),
    movements=("reserved", "released"),
    mails=("closing",),
)

AGED: Final = (
    "UPDATE outbox SET created_at = created_at - interval '100 days' WHERE order_id = %s",
    "UPDATE inbox SET handled_at = handled_at - interval '100 days' WHERE order_id = %s",
)
OLD: Final[Mapping[str, str]] = {
    "inventory": "UPDATE reservations SET created_at = created_at - interval '100 days' WHERE order_id = %s",
    "payments": "UPDATE payments SET created_at = created_at - interval '100 days' WHERE order_id = %s",
    "orders": "UPDATE orders SET updated_at = updated_at - interval '100 days' WHERE id = %s",
}
"""What makes an order one of long ago; orders' own word comes last, for it decides."""


def confirmed(walk: Walk) -> str:
    """Bought, paid for and told."""
    order_id = walk.place()
    walk.ends(order_id, CONFIRMED)
    return order_id


def delivered(walk: Walk) -> str:
    """Bought, shipped and delivered."""
    order_id = confirmed(walk)
    walk.ship(order_id)
    walk.deliver(order_id)
    walk.ends(order_id, DELIVERED)
    return order_id


def refunded(walk: Walk) -> str:
    """Bought, thought better of, and paid back."""
    order_id = confirmed(walk)
    walk.cancel(order_id)
    walk.ends(order_id, REFUNDED)
    return order_id


def declined(walk: Walk) -> str:
    """Bought with a card that is refused."""
    order_id = walk.place(method="pm_declined")
    walk.ends(order_id, DECLINED)
    return order_id


def out_of_stock(walk: Walk) -> str:
    """Bought although there is nothing of it."""
    order_id = walk.place(product=walk.lane.empty)
    walk.ends(order_id, OUT_OF_STOCK)
    return order_id


def abandoned(walk: Walk) -> str:
    """Bought while the processor cannot be reached: five attempts, then it is asked to make no charge."""
    with walk.processor_away("pm_fraud"):
        order_id = walk.place(method="pm_fraud")
        walk.ends(order_id, ABANDONED)
    return order_id


def expired(walk: Walk) -> str:
    """Not paid by its deadline."""
    order_id = walk.place(method="pm_timeout")
    walk.change("orders", "UPDATE orders SET deadline_at = now() WHERE id = %s AND status = 'Pending'", order_id)
    walk.ends(order_id, EXPIRED)
    return order_id


def reminded(walk: Walk) -> str:
    """Paid back, but orders has forgotten that it heard so."""
    order_id = refunded(walk)
    forget = """UPDATE orders SET stock_settled_at = NULL, payment_settled_at = NULL,
        cancelled_at = now() - interval '1 hour' WHERE id = %s"""
    heard = ("InventoryReleasedEvent", "PaymentRefundedEvent")
    walk.change("orders", "DELETE FROM inbox WHERE order_id = %s AND event_type IN %s", order_id, heard)
    walk.change("orders", forget, order_id)
    walk.ends(order_id, REFUNDED)
    return order_id


def pruned(walk: Walk, service: str) -> str:
    """Paid back so long ago that this service keeps the evidence no longer."""
    order_id = refunded(walk)
    walk.age_messages(order_id, days=100)
    for statement in AGED:
        for owner in WITH_EVENTS:
            walk.change(owner, statement, order_id)
    for owner, statement in OLD.items():
        walk.change(owner, statement, order_id)
    walk.until_no_row(service, "SELECT 1 FROM inbox WHERE order_id = %s", order_id)
    walk.until_no_row(service, "SELECT 1 FROM outbox WHERE order_id = %s", order_id)
    return order_id


def repriced(walk: Walk) -> str:
    """A new price, which orders learns of; then bought for it."""
    walk.reprice()
    return confirmed(walk)


def described(walk: Walk) -> str:
    """Bought although orders' copy of the catalogue has lost the product."""
    walk.change("orders", "DELETE FROM catalogue WHERE product_id = %s", walk.lane.product)
    return confirmed(walk)


def looked_up(walk: Walk) -> str:
    """Bought by somebody whose address notifications does not remember."""
    walk.forget_contact()
    return confirmed(walk)


def denials_pruned(walk: Walk) -> str:
    """A token that was given back and has expired long since."""
    token_id = str(uuid4())
    walk.change("users", "INSERT INTO denied_tokens VALUES (%s, now() - interval '1 day')", token_id)
    walk.until_no_row("users", "SELECT 1 FROM denied_tokens WHERE jti = %s", token_id)
    return confirmed(walk)


STORIES: Final[Mapping[str, Callable[[Walk], str]]] = {
    "OrderCreatedEvent": confirmed,
    "InventoryReservedEvent": confirmed,
    "PaymentProcessedEvent": confirmed,
    "OrderConfirmedEvent": confirmed,
    "InventoryReservationFailedEvent": out_of_stock,
    "PaymentVoidedEvent": out_of_stock,
    "PaymentFailedEvent": declined,
    "OrderCancelledEvent": refunded,
    "InventoryReleasedEvent": refunded,
    "PaymentRefundedEvent": refunded,
    "OrderShippedEvent": delivered,
    "OrderDeliveredEvent": delivered,
    "ProductChangedEvent": repriced,
    "charge": confirmed,
    "abandon": abandoned,
    "refund": refunded,
    "place_order": confirmed,
    "cancel_order": refunded,
    "ship_order": delivered,
    "deliver_order": delivered,
    "inventory.describe_products": described,
    "users.get_contact": looked_up,
    "orders.expire_orders": expired,
    "orders.remind_of_settlement": reminded,
    "orders.prune": partial(pruned, service="orders"),
    "inventory.prune": partial(pruned, service="inventory"),
    "payments.prune": partial(pruned, service="payments"),
    "users.prune_tokens": denials_pruned,
    "users.renew_denials": confirmed,
}
"""What to do so that the cause of a place happens."""

ALONE: Final = ("abandon", "prune", "expire_orders", "remind_of_settlement")
"""Causes, or ends of their names, of which one may happen at a time: they are not told apart by whose order it is."""


def happens_alone(cause: str) -> bool:
    """Whether nobody else may tell this story meanwhile."""
    return cause.endswith(ALONE) or cause.startswith("users.")
