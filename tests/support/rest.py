"""Waiting for a whole cluster to have nothing left to do."""

from typing import Final

from cli.doctor_reading import WITH_EVENTS
from cli.servers.programs import wait_until
from tests.support.cluster import Cluster
from tests.support.operator import Operator

REST_SECONDS: Final = 45.0
_UNDER_WAY: Final = {
    "orders": """
        SELECT id::text || ' ' || status AS what FROM orders WHERE status = 'Pending'
            OR (status = 'Cancelled' AND (stock_settled_at IS NULL OR payment_settled_at IS NULL))""",
    "payments": """
        SELECT order_id::text || ' ' || status AS what FROM payments WHERE status IN ('processing', 'refunding')""",
}
_UNPUBLISHED: Final = (
    "SELECT event_type || ' of ' || coalesce(order_id::text, '-') AS what FROM outbox WHERE published_at IS NULL"
)


def under_way(cluster: Cluster, operator: Operator) -> list[str]:
    """What has not come to its end: orders, payments, outbox rows, messages in queues other than the dead letters."""
    found = [str(row["what"]) for service, query in _UNDER_WAY.items() for row in cluster.rows(service, query)]
    for service in WITH_EVENTS:
        found += [f"{service}'s {row['what']}" for row in cluster.rows(service, _UNPUBLISHED)]
    return found or [f"{count} in {queue}" for queue, count in operator.waiting().items()]


def come_to_rest(cluster: Cluster, operator: Operator, seconds: float = REST_SECONDS) -> None:
    """Return when nothing is under way any more; fails with what still is."""
    found: list[str] = []

    def is_at_rest() -> bool:
        found[:] = under_way(cluster, operator)
        return not found

    assert wait_until(is_at_rest, seconds=seconds), f"still under way after {seconds} s: {found[:20]}"
