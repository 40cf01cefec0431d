"""An order followed over its event stream, through every process of a real cluster."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from time import monotonic
from typing import Any

import pytest
import requests

from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster

FOLLOW_SECONDS = 60


def entries(answer: requests.Response) -> Iterator[dict[str, Any]]:
    """Each entry as it comes, under its id."""
    number = 0
    for line in answer.iter_lines(chunk_size=1):
        if line.startswith(b"id: "):
            number = int(line[4:])
        elif line.startswith(b"data: "):
            entry = json.loads(line[6:])
            assert entry["number"] == number
            yield entry


def follow(person: Client, order_id: str, last: int = 0) -> list[dict[str, Any]]:
    """Every entry until a 204, coming again after each end of a stream, as an EventSource does."""
    found: list[dict[str, Any]] = []
    deadline = monotonic() + FOLLOW_SECONDS
    while monotonic() < deadline:
        with suppress(requests.RequestException), closing(listen(person, order_id, last)) as answer:
            if answer.status_code == 204:
                return found
            for entry in entries(answer) if answer.ok else ():
                found.append(entry)
                last = entry["number"]
    raise AssertionError(f"not over in {FOLLOW_SECONDS} s: {found}")


def listen(person: Client, order_id: str, last: int = 0) -> requests.Response:
    """The stream of the order's events after this one."""
    headers = {"Last-Event-ID": str(last)} if last else {}
    url = f"{person.url}/api/order/{order_id}/events"
    return person.http.get(url, headers=headers, stream=True, timeout=15)


def events(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What happened, and what it made of the order."""
    return [(entry["event"], entry["toStatus"]) for entry in found]


class TestFollowing:
    """Whoever follows an order."""

    def test_sees_it_to_its_end(self, customer: Client, admin: Client, product: str) -> None:
        """Each entry once, in order; Delivered is the last."""
        order_id = customer.place(product)

        with ThreadPoolExecutor() as pool:
            following = pool.submit(follow, customer, order_id)
            customer.wait_for(order_id, "Confirmed")
            admin.ship(order_id)
            admin.deliver(order_id)
            found = following.result()

        assert events(found) == [
            ("place", "Pending"),
            ("PaymentProcessedEvent", "Confirmed"),
            ("ship", "Shipped"),
            ("deliver", "Delivered"),
        ]
        assert [entry["number"] for entry in found] == [1, 2, 3, 4]

    def test_sees_what_a_cancelled_order_gets_back(self, customer: Client, product: str) -> None:
        """Until it is settled."""
        order_id = customer.place(product)
        customer.wait_for(order_id, "Confirmed")

        customer.cancel(order_id)
        found = follow(customer, order_id)

        assert events(found)[:3] == [
            ("place", "Pending"),
            ("PaymentProcessedEvent", "Confirmed"),
            ("cancel", "Cancelled"),
        ]
        assert {event for event, _ in events(found)[3:]} == {"InventoryReleasedEvent", "PaymentRefundedEvent"}

    def test_goes_on_where_it_was_when_the_gateway_is_killed(
        self, cluster: Cluster, customer: Client, admin: Client, product: str
    ) -> None:
        """Ids are the database's."""
        order_id = customer.place(product)
        customer.wait_for(order_id, "Confirmed")
        stream = listen(customer, order_id)
        seen = entries(stream)
        first = [next(seen), next(seen)]

        with closing(stream):
            cluster.kill("gateway")
            cluster.start("gateway")
        admin.ship(order_id)
        admin.deliver(order_id)
        rest = follow(customer, order_id, last=2)

        assert [entry["number"] for entry in (*first, *rest)] == [1, 2, 3, 4]

    def test_is_let_go_by_a_logout(self, cluster: Cluster, product: str) -> None:
        """Within seconds."""
        somebody = Client.register(cluster.url)
        order_id = somebody.place(product, method="pm_timeout")
        with closing(listen(somebody, order_id)) as stream:
            seen = entries(stream)
            assert next(seen)["event"] == "place"
            somebody.good("POST", "/api/auth/logout")

            ended = monotonic() + FOLLOW_SECONDS
            while next(seen, None) is not None:
                assert monotonic() < ended

    def test_has_nothing_of_somebody_elses_order(self, cluster: Cluster, customer: Client, product: str) -> None:
        """404, as for an unknown one."""
        order_id = customer.place(product)

        assert listen(Client.register(cluster.url), order_id).status_code == 404


class TestOpenOrders:
    """Orders that are still Pending."""

    @pytest.fixture
    def undecided(self, cluster: Cluster, customer: Client, product: str) -> Iterator[Cluster]:
        """Orders knows the product and allows two Pending orders, and nobody decides them."""
        customer.place(product)
        cluster.stop("orders", "inventory")
        cluster.start("orders", environment={"OPEN_ORDERS_PER_USER": "2"})
        yield cluster
        cluster.heal()

    def test_are_no_more_than_may_be(self, undecided: Cluster, product: str) -> None:
        """429 with Retry-After; room again once they are decided."""
        person = Client.register(undecided.url)
        orders = [person.place(product) for _ in range(2)]

        refused = person.ask("POST", "/api/order", a_wish(product))

        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_open_orders")
        assert int(refused.headers["Retry-After"]) > 0
        undecided.start("inventory")
        for order in orders:
            person.wait_for(order, "Confirmed")
        assert person.ask("POST", "/api/order", a_wish(product)).status_code == 201
