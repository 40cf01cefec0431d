"""Races with many at a time, on two instances of everything; ``tests/saga/test_races.py`` has each of them alone."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from random import Random
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.faults.crowd import (
    at_once,
    check_cancelled_once,
    ends,
    insist,
    make_crowd,
    money_of,
    orders_of,
    place,
    signed_in,
    until_ended,
)
from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import until_mails
from tests.support.operator import Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually

CENTS = 2100
AT_ONCE = 8
REST_SECONDS = 180.0

Record = Callable[[str, object], None]


@pytest.fixture(scope="module", autouse=True)
def _doubled(cluster: Cluster) -> None:
    """Two instances of whoever takes part in the saga, until the module is over."""
    cluster.start("orders", "inventory", "payments", "notifications", instances=2)


@pytest.fixture
def chance(record_property: Record) -> Random:
    """Chance, whose seed is printed and reported."""
    seed = Random().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - whoever looks for what went wrong needs it
    record_property("seed", seed)
    return Random(seed)


def many(number: int) -> Any:
    """So many that only ``./oms faults`` does it."""
    return pytest.param(number, marks=pytest.mark.long)


class TestLastUnit:
    """Many buyers want the last unit at once."""

    @pytest.mark.parametrize("buyers", [2, 10, many(50), many(200)])
    def test_goes_to_one(
        self, cluster: Cluster, operator: Operator, admin: Client, buyers: int, record_property: Record
    ) -> None:
        """The others are cancelled for want of stock and never charged, and each is told what became of it."""
        product, began = admin.add_product(stock=1), monotonic()

        placed = at_once([partial(place, buyer, a_wish(product)) for buyer in make_crowd(cluster, buyers)])
        ended = until_ended(cluster, placed)
        record_property("all_ended_s", round(monotonic() - began, 1))

        assert ends(ended) == {"Confirmed": 1, "out_of_stock": buyers - 1}
        assert admin.stock(product) == (1, 1)
        (winner,) = (order["id"] for order in ended if order["status"] == "Confirmed")
        assert money_of(cluster, placed) == {winner: (CENTS, 0)}
        come_to_rest(cluster, operator, REST_SECONDS)
        for order_id in placed:
            until_mails(cluster, order_id, *(["confirmation", "receipt"] if order_id == winner else ["closing"]))


class TestOppositeLines:
    """Orders of several products, each with its lines in another order."""

    @pytest.mark.parametrize("number", [12, many(120)])
    def test_hold_up_nobody_and_leave_nothing_half_done(
        self, cluster: Cluster, operator: Operator, admin: Client, chance: Random, number: int
    ) -> None:
        """Reserved and given back at the same time: never a deadlock, all lines or none, and no unit lost."""
        scarce, fits = number // 3, number // 3
        shelf = {admin.add_product(stock=stock): stock for stock in (scarce, scarce + 5, number)}
        people = make_crowd(cluster, 2 * number)
        wishes = [a_wish(*chance.sample(sorted(shelf), len(shelf))) for _ in people]
        deadlocks = count_deadlocks(cluster)

        first = at_once([partial(place, who, wish) for who, wish in zip(people[:number], wishes, strict=False)])
        winners = [order["id"] for order in until_ended(cluster, first) if order["status"] == "Confirmed"]
        assert len(winners) == fits
        owners = dict(zip(first, people, strict=False))
        cancelling = [partial(owners[order_id].cancel, order_id) for order_id in winners]
        placing = [partial(place, who, wish) for who, wish in zip(people[number:], wishes[number:], strict=True)]
        with ThreadPoolExecutor(1) as aside:
            cancelled = aside.submit(at_once, cancelling)
            second = at_once(placing)
            cancelled.result()
        come_to_rest(cluster, operator, REST_SECONDS)

        served = ends(orders_of(cluster, second))["Confirmed"]
        assert served <= fits
        assert {product: admin.stock(product) for product in shelf} == {
            product: (stock, served) for product, stock in shelf.items()
        }
        check_cancelled_once(cluster, orders_of(cluster, [*first, *second]))
        assert count_deadlocks(cluster) == deadlocks


def count_deadlocks(cluster: Cluster) -> dict[str, int]:
    """How many deadlocks PostgreSQL has ended in each database so far."""
    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    return {service: cluster.rows(service, query)[0]["deadlocks"] for service in cluster.place.database_urls}


class TestCancelAgainstCapture:
    """Orders are cancelled at any moment between their placing and their confirmation."""

    @pytest.mark.parametrize("number", [20, many(500)])
    def test_never_keeps_the_money(
        self,
        cluster: Cluster,
        operator: Operator,
        admin: Client,
        chance: Random,
        number: int,
        record_property: Record,
    ) -> None:
        """What was charged goes back, what was not never is, and the shelf is full again."""
        product = admin.add_product(stock=number + AT_ONCE)
        people = make_crowd(cluster, AT_ONCE)
        window = until_confirmed(cluster, product, people)

        def play(turn: int) -> str:
            who = people[turn % AT_ONCE]
            order_id = place(who, a_wish(product))
            if turn % 10 == 0:
                who.wait_for(order_id, "Confirmed", seconds=60)
            elif turn % 10 > 1:
                Event().wait(delays[turn])
            assert who.cancel(order_id)["status"] == "Cancelled"
            return order_id

        delays = [chance.uniform(0, 1.5 * window) for _ in range(number)]
        early = range(1, number, 10)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            with cluster.held("inventory", "SELECT 1 FROM products WHERE id = %s FOR UPDATE", product):
                placed = list(pool.map(play, early))
                until_voided(cluster, placed)
            placed += pool.map(play, [turn for turn in range(number) if turn not in early])
        come_to_rest(cluster, operator, REST_SECONDS)

        orders = orders_of(cluster, placed)
        assert ends(orders) == {"customer": number}
        check_cancelled_once(cluster, orders)
        assert admin.stock(product) == (number + AT_ONCE, AT_ONCE)
        outcomes = Counter(order["payment_status"] for order in orders)
        record_property("window_s", round(window, 2))
        record_property("outcomes", dict(outcomes))
        assert set(outcomes) == {"Voided", "Refunded"}


def until_voided(cluster: Cluster, order_ids: list[str]) -> None:
    """Wait until payments will never charge any of these orders."""
    query = "SELECT order_id FROM payments WHERE order_id = ANY(%s::uuid[]) AND status = 'voided'"
    eventually(lambda: len(cluster.rows("payments", query, order_ids)) == len(order_ids), "voided", 60)


def until_confirmed(cluster: Cluster, product: str, people: list[Client]) -> float:
    """The seconds that as many orders at once take to be confirmed."""
    began = monotonic()
    until_ended(cluster, at_once([partial(place, who, a_wish(product)) for who in people]))
    return monotonic() - began


class TestDeadline:
    """Deadline, payment and cancel come to an order at nearly the same moment."""

    @pytest.mark.parametrize("number", [24, many(300)])
    def test_has_one_winner(
        self,
        cluster: Cluster,
        operator: Operator,
        admin: Client,
        chance: Random,
        number: int,
        record_property: Record,
    ) -> None:
        """One OrderCancelledEvent at most, whoever causes it; what it paid goes back, and live orders are paid."""
        product = admin.add_product(stock=number + AT_ONCE)
        people = make_crowd(cluster, AT_ONCE)
        window = until_confirmed(cluster, product, people)

        def play(turn: int) -> str:
            who, share = people[turn % AT_ONCE], turn % 6
            order_id = place(who, a_wish(product, method="pm_slow" if share in (1, 2) else "pm_ok"))
            if share:
                cluster.expire(order_id, after_seconds=0 if share == 1 else waits[turn][0])
            if share > 2:
                Event().wait(0 if share == 3 else waits[turn][1])
                who.cancel(order_id)
            return order_id

        waits = [(chance.uniform(0, 1.5 * window), chance.uniform(0, 1.5 * window)) for _ in range(number)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            placed = list(pool.map(play, range(number)))
        until_ended(cluster, placed)
        come_to_rest(cluster, operator, REST_SECONDS)

        orders = orders_of(cluster, placed)
        check_cancelled_once(cluster, orders)
        live = {order["id"] for order in orders if order["status"] == "Confirmed"}
        money = money_of(cluster, placed)
        assert {order_id: money.get(order_id) for order_id in live} == dict.fromkeys(live, (CENTS, 0))
        assert admin.stock(product) == (number + AT_ONCE, len(live) + AT_ONCE)
        found = ends(orders)
        record_property("outcomes", dict(found))
        assert set(found) == {"Confirmed", "customer", "expired"}


class TestIdempotencyKey:
    """One key from twenty connections of one account at once, round after round."""

    @pytest.mark.parametrize("rounds", [2, many(20)])
    def test_stands_for_one_order(self, cluster: Cluster, admin: Client, rounds: int) -> None:
        """Who says the same gets the same answer; who says something else is refused and places nothing."""
        product = admin.add_product(stock=2 * rounds)
        (owner,) = make_crowd(cluster, 1)
        connections = [signed_in(cluster.url, UUID(owner.user_id)) for _ in range(20)]

        for number in range(rounds):
            key, contested = str(uuid4()), number % 2
            quantities = [1 + contested * (index % 2) for index in range(20)]
            asking = [
                partial(insist, who, a_wish(product, quantity=quantity), key)
                for who, quantity in zip(connections, quantities, strict=True)
            ]

            answers = at_once(asking)

            same = [answer for answer in answers if answer.status_code == 201]
            assert len({(answer.text, answer.headers["Location"]) for answer in same}) == 1
            assert sum("Idempotent-Replayed" not in answer.headers for answer in same) <= 1
            taken = same[0].json()["items"][0]["quantity"]
            assert len(same) == quantities.count(taken)
            others = [answer for answer in answers if answer not in same]
            assert {(answer.status_code, answer.json()["code"]) for answer in others} == (
                {(422, "idempotency_key_reused")} if contested else set()
            )

        query = "SELECT count(*) AS placed FROM orders WHERE user_id = %s"
        assert cluster.rows("orders", query, owner.user_id) == [{"placed": rounds}]
