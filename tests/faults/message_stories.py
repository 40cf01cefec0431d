"""Orders that between them cause all thirteen events, and what is left of them afterwards."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cli.doctor_reading import WITH_EVENTS
from services.chassis.topology import Subscription
from tests.support.client import Client
from tests.support.cluster import Cluster

LISTENING: Final = ("orders", "inventory", "payments", "notifications")

Leavings = dict[str, Counter[tuple[Any, ...]]]

OF_AN_ORDER: Final[Mapping[str, Sequence[str]]] = {
    "orders": (
        "orders WHERE id = %s::uuid",
        *(f"{table} WHERE order_id = %s::uuid" for table in ("order_items", "order_history", "outbox", "inbox")),
    ),
    "inventory": tuple(
        f"{table} WHERE order_id = %s::uuid"
        for table in ("reservations", "reservation_items", "ledger", "outbox", "inbox")
    ),
    "payments": (
        *(f"{table} WHERE order_id = %s::uuid" for table in ("payments", "outbox", "inbox")),
        "processor.charges WHERE key = %s",
        "processor.refunds WHERE key = %s || ':refund'",
    ),
}
"""Where an order leaves something."""

VARIES: Final = re.compile(
    r"(.*_)?(id|at|until|attempts?|after)|key|number|product_name|payload|traceparent|shortages",
)
"""What differs between two orders of the same kind: ids, times, tries, the levels of a shelf that others share."""


PATIENT: Final = {"SETTLEMENT_FIRST_SECONDS": "300"}
"""For orders: no reminder of a settlement that takes long on a slow machine, or because somebody sees to that."""


def tell_all(admin: Client, customer: Client, seconds: float = 60) -> dict[str, str]:
    """The ids of four orders that have ended, each in its way; a product changed meanwhile."""
    product = admin.add_product(stock=9)
    told = {
        "delivered": customer.place(product),
        "short": customer.place(product, quantity=99),
        "declined": customer.place(product, method="pm_declined"),
        "taken back": customer.place(product),
    }
    for name, order_id in told.items():
        customer.wait_for(order_id, "Cancelled" if name in ("short", "declined") else "Confirmed", seconds)
    admin.ship(told["delivered"])
    admin.deliver(told["delivered"])
    customer.cancel(told["taken back"])
    admin.good("PATCH", f"/api/inventory/products/{product}", {"price": 22})
    return told


def leavings(cluster: Cluster, told: Mapping[str, str]) -> Leavings:
    """What the orders have left in every table and in the mailbox, without ids and times."""
    return {name: Counter(_left_by(cluster, order_id)) for name, order_id in told.items()}


def differences(found: Leavings, expected: Leavings) -> list[tuple[str, Any]]:
    """What one story has left and the same one of others has not."""
    sides = {"more": (found, expected), "missing": (expected, found)}
    return [
        (f"{side}: {name}", dict(left[name] - other[name]))
        for side, (left, other) in sides.items()
        for name in expected
        if left[name] - other[name]
    ]


def _left_by(cluster: Cluster, order_id: str) -> Iterator[tuple[Any, ...]]:
    for service, tables in OF_AN_ORDER.items():
        for table in tables:
            for row in cluster.rows(service, f"SELECT * FROM {table}", order_id):  # noqa: S608 - our own tables
                told = (f"{name}: {value}" for name, value in sorted(row.items()) if not VARIES.fullmatch(name))
                yield (service, table, *told)
    for channel in ("email", "sms"):
        for file in (cluster.mailbox / channel).glob(f"{order_id}.*"):
            yield ("notifications", channel, file.name.removeprefix(order_id))


def published(cluster: Cluster, told: Mapping[str, str]) -> dict[Subscription, list[dict[str, Any]]]:
    """For each subscription what it has got of these orders, and of the products."""
    query = """SELECT event_id, event_type, payload FROM outbox
        WHERE order_id::text IN %s OR event_type = 'ProductChangedEvent' ORDER BY id DESC LIMIT 100"""
    rows = {service: cluster.rows(service, query, tuple(told.values())) for service in WITH_EVENTS}
    return {
        each: [row for row in rows[each.source] if row["event_type"] == each.event] for each in cluster.subscriptions()
    }
