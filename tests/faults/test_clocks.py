"""Processes whose clocks are wrong, beside others whose clocks are right, on servers whose clocks are right."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from cli.services import SERVICES
from services.chassis.auth import verify_token
from tests.faults.crowd import (
    TOKENS,
    ask_until,
    at_once,
    check_cancelled_once,
    ends,
    insist,
    make_crowd,
    orders_of,
    place,
    signed_in,
    until_ended,
)
from tests.faults.shifted import SHIFTED, VARIABLE
from tests.support.client import Client, a_wish
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, SHORT, Cluster
from tests.support.fixtures import check_at_rest
from tests.support.operator import Operator, counts
from tests.support.until import eventually

pytestmark = pytest.mark.long

TOUCHED = {"orders": ("orders", "id"), "inventory": ("reservations", "order_id"), "payments": ("payments", "order_id")}
"""Where each service writes when it has last touched an order."""


class Crooked:
    """A cluster with a second instance of every service, whose clocks are ``hours`` ahead."""

    def __init__(self, cluster: Cluster, hours: int, admin: Client) -> None:
        self.cluster = cluster
        self.hours = hours
        self.shelf = {stock: admin.add_product(stock=stock) for stock in (1, 2, 10, 25)}
        """A product with so many on the shelf; made while every instance still takes the administrator's token."""

    @property
    def refusal(self) -> str:
        """What such an instance says of a token that was issued just now."""
        return "token_expired" if self.hours > 0 else "token_invalid"

    def start(self, *services: str) -> None:
        """The second instances of these services."""
        told = {VARIABLE: str(self.hours), "PROCESSOR_SLOW_SECONDS": "30", "PROCESSOR_ANSWER_SECONDS": "40"}
        self.cluster.start(*services, instances=2, environment=told, runner=SHIFTED)

    def order(self, who: Client, wish: object) -> str:
        """The id of a new order, however many instances refuse the token first."""
        return place(who, wish, despite=self.refusal)

    def post(self, who: Client, path: str) -> None:
        """Ask for that, likewise."""
        answer = ask_until(lambda: who.ask("POST", path, {}), self.refusal)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module", params=[2, -2], ids=lambda hours: f"{hours:+} h")
def crooked(cluster: Cluster, admin: Client, request: pytest.FixtureRequest) -> Iterator[Crooked]:
    """Clocks that are ahead, then clocks that are behind."""
    crooked = Crooked(cluster, request.param, admin)
    crooked.start(*SERVICES)
    yield crooked
    cluster.heal()


class TestClocks:
    """The clock of every second process is two hours off."""

    def test_every_order_ends_as_it_should(self, crooked: Crooked, cluster: Cluster, operator: Operator) -> None:
        """Shipped, cancelled or out of stock; the doctor is content, and takes every order for as old as it is."""
        product = crooked.shelf[25]
        people, staff = make_crowd(cluster, 30), signed_in(cluster.url, uuid4(), "staff")

        placed = at_once([partial(crooked.order, who, a_wish(product)) for who in people])
        owners = dict(zip(placed, people, strict=True))
        sold = [order["id"] for order in until_ended(cluster, placed) if order["status"] == "Confirmed"]
        at_once([partial(crooked.post, owners[each], f"/api/order/{each}/cancel") for each in sold[:10]])
        at_once([partial(crooked.post, staff, f"/api/order/{each}/ship") for each in sold[10:20]])
        check_at_rest(cluster, operator, 120)

        orders = orders_of(cluster, placed)
        assert ends(orders) == {"out_of_stock": 5, "customer": 10, "Shipped": 10, "Confirmed": 5}
        check_cancelled_once(cluster, orders)
        levels = cluster.rows("inventory", "SELECT on_hand, reserved FROM products WHERE id = %s", product)
        assert levels == [{"on_hand": 15, "reserved": 5}]
        assert {service: of_another_time(cluster, service, placed) for service in TOUCHED} == dict.fromkeys(TOUCHED, 0)
        for service in ("orders", "inventory", "payments", "notifications"):
            for instance in (service, f"{service}-2"):
                assert sum(counts(cluster, instance, "oms_handler_seconds_count", "handler").values()), instance

    def test_one_key_is_one_order(self, crooked: Crooked, cluster: Cluster) -> None:
        """Whichever instance was asked first, and whichever is asked again."""
        wish, (who,), key = a_wish(crooked.shelf[10]), make_crowd(cluster, 1), str(uuid4())

        answers = [insist(who, wish, key, despite=crooked.refusal) for _ in range(10)]

        assert {(answer.status_code, answer.text) for answer in answers} == {(201, answers[0].text)}

    def test_deadlines_go_by_the_databases_clock(self, crooked: Crooked, cluster: Cluster, operator: Operator) -> None:
        """Left to an instance whose clock is wrong, an order is cancelled when it is time, and not before."""
        product, people = crooked.shelf[2], make_crowd(cluster, 2)
        created = cluster.subscription("inventory.on_order_created")

        with operator.cut(created):
            due, later = (crooked.order(who, a_wish(product)) for who in people)
            cluster.stop("orders")
            cluster.expire(due)
            until_ended(cluster, [due])
            ended, pending = (ends(orders_of(cluster, [each])) for each in (due, later))
        cluster.start("orders")

        assert (ended, pending) == ({"expired": 1}, {"Pending": 1})
        assert ends(until_ended(cluster, [later])) == {"Confirmed": 1}

    def test_a_lease_lasts_as_long_as_it_says(self, crooked: Crooked, cluster: Cluster) -> None:
        """An attempt of an instance that died is taken up when its lease is over: never earlier, nor hours later."""
        product, (who,) = crooked.shelf[1], make_crowd(cluster, 1)

        cluster.stop("payments")
        order_id = crooked.order(who, a_wish(product, method="pm_slow"))
        eventually(lambda: attempts_of(cluster, order_id), "begun", seconds=60)
        cluster.kill("payments-2")
        cluster.start("payments")
        ended = until_ended(cluster, [order_id])
        crooked.start("payments")

        assert ends(ended) == {"Confirmed": 1}
        begun = attempts_of(cluster, order_id)
        assert len(begun) >= 2
        assert min(later - earlier for earlier, later in pairwise(begun)) >= float(SHORT["PROCESSOR_LEASE_SECONDS"])

    def test_a_token_is_issued_right_and_judged_by_each_for_itself(self, crooked: Crooked, cluster: Cluster) -> None:
        """Whoever issues it; a door whose clock is wrong refuses it, and says so as it does for any other."""
        cluster.stop("users")
        token = Client.login(cluster.url, ADMIN_EMAIL, ADMIN_PASSWORD).http.headers["Authorization"]
        cluster.start("users")

        issued = verify_token(str(token).removeprefix("Bearer "), TOKENS).expires_at - datetime.now(UTC)
        assert 0 < issued.total_seconds() <= float(SHORT["ACCESS_TOKEN_SECONDS"]) + 5
        (who,) = make_crowd(cluster, 1)
        wrong_door = cluster.url_of("gateway-2")
        refused = Client(wrong_door, {"token": who.http.headers["Authorization"][7:], "userId": who.user_id})
        answer = refused.ask("GET", "/api/order")
        assert (answer.status_code, answer.json()["code"]) == (401, crooked.refusal)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert refused.ask("GET", "/api/inventory/products").status_code == 200


def of_another_time(cluster: Cluster, service: str, order_ids: Sequence[str]) -> int:
    """How many of these orders the service believes to have touched in the future, or long ago."""
    table, key = TOUCHED[service]
    when = "updated_at BETWEEN now() - interval '1 hour' AND now()"
    query = f"SELECT count(*) AS wrong FROM {table} WHERE {key} = ANY(%s::uuid[]) AND NOT {when}"  # noqa: S608 - ours
    return int(cluster.rows(service, query, list(order_ids))[0]["wrong"])


def attempts_of(cluster: Cluster, order_id: str) -> list[Any]:
    """When each attempt at the order's charge began, in seconds."""
    query = """
        SELECT extract(epoch FROM started_at)::float8 AS at FROM attempts JOIN payments ON payments.id = payment_id
        WHERE order_id = %s ORDER BY started_at"""
    return [row["at"] for row in cluster.rows("payments", query, order_id)]
