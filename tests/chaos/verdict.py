"""Whether everything held: the doctor's checks, the saga's invariants, and every promise that the load was given."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from cli.doctor import examine, subscriptions
from cli.servers.programs import wait_until
from cli.services import service_classes
from services.chassis.topology import derive
from tests.chaos.diary import Diary
from tests.chaos.ground import Ground
from tests.chaos.load import Book
from tests.support.rest import come_to_rest

READY_SECONDS: Final = 300
REST_SECONDS: Final = 300
HEALTHY_SECONDS: Final = 60
QUIET_SECONDS: Final = 0.0
"""Every order is judged: the load has ended."""


def calm(ground: Ground, diary: Diary) -> None:
    """Wait until every instance is ready, without starting any anew."""
    try:
        ground.cluster.wait_ready(seconds=READY_SECONDS)
    except AssertionError as error:
        diary.wrong(f"not ready after {READY_SECONDS} s of calm: {error}")


def rest(ground: Ground, diary: Diary) -> None:
    """Wait until nothing is under way in the databases and in the broker."""
    try:
        come_to_rest(ground.cluster, ground.operator, seconds=REST_SECONDS)
    except AssertionError as error:
        diary.wrong(str(error))


def judge(ground: Ground, diary: Diary, book: Book) -> None:
    """Tell everything that is wrong now, and stays so for a while."""
    wanted = derive(service_classes(), ground.cluster.delays_ms)
    found: list[str] = []

    def is_well() -> bool:
        report = examine(ground.places, wanted, subscriptions(), QUIET_SECONDS)
        found[:] = [f"{finding.check}: {finding.text}" for finding in report.findings()]
        return not found

    wait_until(is_well, seconds=HEALTHY_SECONDS)  # what was just delivered may still be at work
    for wrong in [*found, *unkept(ground, book)]:
        diary.wrong(wrong)


def unkept(ground: Ground, book: Book) -> Iterator[str]:
    """The promises that were not kept."""
    query = "SELECT id::text, shipping_address AS key, status FROM orders"
    rows = ground.cluster.rows("orders", query)
    statuses = {row["id"]: row["status"] for row in rows}
    yield from (f"order {order_id} is still Pending" for order_id, status in statuses.items() if status == "Pending")
    for key, times in Counter(row["key"] for row in rows).items():
        if times > 1:
            yield f"{key} was placed {times} times"
    placed = {row["key"]: row["id"] for row in rows}
    for key, order_id in book.orders.items():
        if placed.get(key) != order_id:
            yield f"{key} was answered with order {order_id}, but the books have {placed.get(key)}"
    for order_id, promised in book.statuses.items():
        status = statuses.get(order_id, "nowhere")
        if status != promised and (promised, status) != ("Shipped", "Delivered"):  # whose answer was lost
            yield f"order {order_id} was answered to be {promised}, but is {status}"


def outcomes(ground: Ground) -> Mapping[str, int]:
    """How many orders ended how."""
    query = """
        SELECT status || coalesce(' (' || status_reason || ')', '') AS outcome, count(*) AS orders FROM orders
        GROUP BY outcome ORDER BY outcome"""
    return {row["outcome"]: row["orders"] for row in ground.cluster.rows("orders", query)}
