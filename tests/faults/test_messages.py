"""Messages that come in any order, several times, late, and in masses."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice, repeat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from services.chassis import wire
from tests.faults.message_backlog import Worked, work_off
from tests.faults.message_cases import SEEN, Case, each_once, each_twice
from tests.faults.message_detour import Detour, opened, send
from tests.faults.message_orders import ALONE, play_mails
from tests.faults.message_stories import (
    LISTENING,
    PATIENT,
    differences,
    leavings,
    published,
    tell_all,
)
from tests.integration.notifications.bench import Bench
from tests.property.house import PRODUCTS, SERVICES, House
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, fingerprints, mails, movements_of, refunds_of, until_mails
from tests.support.operator import Operator, counts
from tests.support.rest import come_to_rest
from tests.support.until import eventually

PATIENCE_SECONDS = 120.0
BACKLOG_SECONDS = 1_200.0


@pytest.fixture
def house(postgres_url: str, fresh_database: Callable[[str], str]) -> Iterator[House]:
    """Orders, inventory and payments in this process, with plenty of what can be bought."""
    house = House(postgres_url, {name: fresh_database(name) for name in SERVICES})
    house.clear()
    house.drain()
    house.service("inventory").adjust_stock(str(PRODUCTS[0]), {"delta": 1_000_000, "reason": "test"})
    yield house
    house.close()


@pytest.fixture
def mailing(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    """Notifications in this process."""
    bench = Bench(redis_url, tmp_path / "mailbox")
    yield bench
    bench.stop()


TIMES = [pytest.param(each_once, id="each once"), pytest.param(each_twice, id="each twice", marks=pytest.mark.long)]


class TestAnyOrder:
    """The events of one order come in any order."""

    @pytest.mark.parametrize("orders_of", TIMES)
    @pytest.mark.parametrize("service", ALONE)
    def test_leads_where_the_tables_say(self, house: House, service: str, orders_of: Any, record_property: Any) -> None:
        """In each of the six stories, in every permutation; what was given up meanwhile is replayed in the end."""
        alone = ALONE[service](house)
        played = 0
        for story, seen in SEEN.items():
            for steps in orders_of(seen.get(service, ())):
                alone.play(Case(story), steps)
                played += 1
        house.check_now()
        record_property("permutations", played)

    @pytest.mark.parametrize("orders_of", TIMES)
    def test_tells_each_thing_once_and_nothing_that_is_over(
        self, mailing: Bench, orders_of: Any, record_property: Any
    ) -> None:
        """One message of a kind, and no confirmation after a cancellation."""
        played = 0
        for story, seen in SEEN.items():
            for steps in orders_of(seen["notifications"]):
                play_mails(mailing, story, steps)
                played += 1
        record_property("permutations", played)


class TestCopies:
    """Every event comes to every subscriber several times at once, and there are two instances of each service."""

    @pytest.mark.long
    def test_change_nothing(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, record_property: Any
    ) -> None:
        """Twice or ten times: every table, the processor's book and the mailbox as after one delivery."""
        cluster.stop("orders")
        cluster.start("orders", environment=PATIENT)
        once = leavings(cluster, self._told(cluster, operator, admin, customer, times=1))
        cluster.start("orders", instances=2, environment=PATIENT)
        cluster.start(*LISTENING, instances=2)

        for times in (2, 10):
            told = self._told(cluster, operator, admin, customer, times)
            assert differences(leavings(cluster, told), once) == []

        before, answered = fingerprints(cluster), operator.handled()
        again = self._repeat(cluster, operator, told, times=10)
        eventually(lambda: operator.handled() >= answered + again, "all are answered", PATIENCE_SECONDS)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        assert fingerprints(cluster) == before
        assert operator.dead_letters() == []
        record_property("repeated_to_each_handler", dict(again))
        for service in LISTENING:
            assert sum(counts(cluster, f"{service}-2", "oms_handler_seconds_count", "handler").values()) > 0

    def _told(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, times: int
    ) -> dict[str, str]:
        """The orders after all stories, of which everybody heard everything so many times."""
        detour = Detour(operator, cluster.subscriptions())
        with detour.copying(times):
            told = tell_all(admin, customer)
            come_to_rest(cluster, operator, PATIENCE_SECONDS)
            eventually(lambda: len(mails(cluster, told["delivered"])) == 4, "all mails", PATIENCE_SECONDS)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        until_mails(cluster, told["taken back"], "confirmation", "receipt", "closing", "refund")
        assert detour.handed_on.keys() == set(cluster.subscriptions())
        return told

    def _repeat(self, cluster: Cluster, operator: Operator, told: Mapping[str, str], times: int) -> Counter[str]:
        """Once more, so many copies of everything; how many for each handler."""
        again: Counter[str] = Counter()
        with opened(operator) as channel:
            for to, rows in published(cluster, told).items():
                for row in rows:
                    properties = {"message_id": str(row["event_id"]), "content_type": "application/json"}
                    send(channel, to, row["payload"].encode(), times, delivery_mode=2, **properties)
                    again[f"{to.service}.{to.method}"] += times
        return again


@dataclass(frozen=True)
class Late:
    """What a handler has to wait for until its order has expired, and what becomes of the order."""

    handler: str
    payment: str
    charges: tuple[str, ...] = ()
    mails: tuple[str, ...] = ("closing",)
    movements: tuple[tuple[str, int], ...] = (("reserved", 1), ("released", -1))
    wish: Mapping[str, Any] | None = None


LATE = [
    Late("orders.on_payment_processed", "Refunded", ("charged",), ("closing", "receipt", "refund")),
    Late("payments.on_inventory_reserved", "Voided"),
    Late("inventory.on_order_created", "Voided", movements=()),
    Late("orders.on_reservation_failed", "Voided", movements=(), wish={"quantity": 99}),
    Late("orders.on_payment_failed", "Failed", ("declined",), wish={"method": "pm_declined"}),
]


class TestLate:
    """An event is held back until its order's deadline is over and all is settled."""

    @pytest.mark.parametrize(
        "late",
        [
            pytest.param(each, id=each.handler, marks=pytest.mark.long if number else ())
            for number, each in enumerate(LATE)
        ],
    )
    def test_changes_nothing_any_more(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, late: Late
    ) -> None:
        """The order stays Cancelled, its stock and its money where they belong, and it is told of once."""
        product = admin.add_product(stock=3)
        held = cluster.subscription(late.handler)
        with Detour(operator, [held]).on() as detour:
            order_id = customer.place(product, **(late.wish or {}))
            eventually(detour.count, f"{held.event} is held back", 60)
            cluster.expire(order_id)
            customer.wait_for(order_id, "Cancelled", 60, statusReason="expired", paymentStatus=late.payment)
            come_to_rest(cluster, operator, PATIENCE_SECONDS)
        query = "SELECT 1 FROM inbox WHERE order_id = %s AND handler = %s AND event_type = %s"
        eventually(lambda: cluster.rows(held.service, query, order_id, late.handler, held.event), "answered", 60)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)

        order = customer.order(order_id)
        assert (order["status"], order["statusReason"]) == ("Cancelled", "expired")
        assert order["paymentStatus"] == late.payment
        assert movements_of(cluster, order_id) == list(late.movements)
        assert admin.stock(product) == (3, 0)
        assert charge_of(cluster, order_id) == list(late.charges)
        assert len(refunds_of(cluster, order_id)) == late.charges.count("charged")
        until_mails(cluster, order_id, *late.mails)
        assert operator.dead_letters() == []


FEW = 500
COPIES = 100_000
DIFFERENT = 20_000
MEGABYTE = 1024 * 1024
MOST_GROWN_BYTES = 16 * MEGABYTE
"""How much more memory a process may ever have that works off a backlog, than one that has answered a few messages.

It is handed ten messages of a queue at a time (its prefetch count). Without that bound a message takes about 1 KB, so
that either backlog would show. A leak shows from about 170 bytes with each copy, and 840 with each different event."""


class TestBacklog:
    """Very many messages wait in one queue."""

    @pytest.fixture
    def declined(self, cluster: Cluster, operator: Operator, admin: Client, customer: Client) -> str:
        """An order that has ended."""
        order_id = customer.place(admin.add_product(stock=1), method="pm_declined")
        customer.wait_for(order_id, "Cancelled", 60, paymentStatus="Failed")
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        return order_id

    @pytest.mark.long
    def test_of_copies_is_worked_off_with_flat_memory(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, declined: str, record_property: Any
    ) -> None:
        """A hundred thousand of one event, while new orders go through, and without a trace."""
        to = cluster.subscription("notifications.on_order_cancelled")
        (row,) = published(cluster, {"declined": declined})[to]
        body = row["payload"].encode()
        before = leavings(cluster, {"declined": declined})

        def buy() -> None:
            next_order = customer.place(admin.add_product(stock=1))
            until_mails(cluster, next_order, "confirmation", "receipt")  # it waits behind nothing

        few = work_off(cluster, operator, to, repeat(body, FEW), BACKLOG_SECONDS)
        many = work_off(cluster, operator, to, repeat(body, COPIES), BACKLOG_SECONDS, meanwhile=buy)

        record(record_property, COPIES, few, many)
        assert many.most_bytes - few.most_bytes < MOST_GROWN_BYTES
        assert differences(leavings(cluster, {"declined": declined}), before) == []
        assert operator.dead_letters() == []

    @pytest.mark.long
    def test_of_different_events_is_worked_off_with_flat_memory(
        self, cluster: Cluster, operator: Operator, declined: str, record_property: Any
    ) -> None:
        """Twenty thousand, none of which was answered before; each leaves its row in the inbox, and nothing else."""
        to = cluster.subscription("orders.on_payment_failed")
        (row,) = published(cluster, {"declined": declined})[to]
        event = wire.decode(row["payload"])
        bodies = (wire.encode({**event, "event_id": str(uuid4())}) for _ in count())
        before = leavings(cluster, {"declined": declined})

        few = work_off(cluster, operator, to, islice(bodies, FEW), BACKLOG_SECONDS)
        many = work_off(cluster, operator, to, islice(bodies, DIFFERENT), BACKLOG_SECONDS)

        record(record_property, DIFFERENT, few, many)
        assert many.most_bytes - few.most_bytes < MOST_GROWN_BYTES
        ((what, more),) = differences(leavings(cluster, {"declined": declined}), before)
        assert what == "more: declined"
        assert {row[1].split()[0]: number for row, number in more.items()} == {"inbox": FEW + DIFFERENT}
        assert operator.dead_letters() == []


def record(record_property: Any, number: int, few: Worked, many: Worked) -> None:
    """How fast so many messages were worked off, and what memory that took."""
    record_property("messages_per_second", round(number / many.seconds))
    record_property("memory_mb_from_to", [round(each.most_bytes / MEGABYTE) for each in (few, many)])
