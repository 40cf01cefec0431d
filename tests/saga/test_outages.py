from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from uuid import uuid4

import pytest
import requests

from cli.readiness import direct_session
from cli.servers.private import Servers
from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, mails, until_mails
from tests.support.operator import Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually

ANSWER_SECONDS = 8  # five for the call, half a one to learn who is to blame, the rest for a busy machine


@pytest.fixture(autouse=True)
def _healed(cluster: Cluster, private_servers: Servers) -> Iterator[None]:
    """Whatever server a test leaves dead or frozen is well again, and so is every service."""
    yield
    for server in ("postgres", "rabbitmq", "valkey"):
        private_servers.thaw(server)
        if not all(child.alive for child in private_servers.children[server]):
            private_servers.restart(server)
    cluster.wait_ready()


def is_refused_in_time(ask: Callable[[], requests.Response]) -> None:
    """503 with Retry-After, as a problem document, in time."""
    began = monotonic()
    answer = ask()
    assert monotonic() - began < ANSWER_SECONDS, answer.text
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"] == "application/problem+json"


def all_alive(cluster: Cluster, pids: dict[str, int]) -> bool:
    """Whether every service is the very process it was."""
    return {name: child.process.pid for name, child in cluster.children.items() if child.alive} == pids


def processes(cluster: Cluster) -> dict[str, int]:
    """Which process each service is."""
    return {name: child.process.pid for name, child in cluster.children.items()}


def buyers(cluster: Cluster, product: str) -> set[str]:
    """The confirmed orders of the product."""
    query = """
        SELECT order_id::text FROM order_items JOIN orders ON orders.id = order_id
        WHERE product_id = %s AND status = 'Confirmed'"""
    return {row["order_id"] for row in cluster.rows("orders", query, product)}


class TestBroker:
    """RabbitMQ goes away with orders on their way."""

    @pytest.mark.parametrize("hurt", ["kill", "freeze"])
    def test_every_order_reaches_its_end_afterwards(
        self,
        cluster: Cluster,
        operator: Operator,
        private_servers: Servers,
        admin: Client,
        customer: Client,
        hurt: str,
    ) -> None:
        """Five orders, cut off half-way; meanwhile the door says 503, and nobody needs to be started again."""
        product, before = admin.add_product(stock=4), processes(cluster)
        methods = ["pm_slow", "pm_ok", "pm_slow", "pm_declined", "pm_slow"]
        orders = [customer.place(product, method=method) for method in methods]

        getattr(private_servers, hurt)("rabbitmq")
        is_refused_in_time(lambda: customer.ask("POST", "/api/order", a_wish(product)))
        is_refused_in_time(lambda: customer.ask("GET", f"/api/order/{orders[0]}"))
        private_servers.restart("rabbitmq") if hurt == "kill" else private_servers.thaw("rabbitmq")
        cluster.wait_ready()
        come_to_rest(cluster, operator, seconds=60)

        ended = [customer.order(order_id) for order_id in orders]
        assert [order["status"] for order in ended][3] == "Cancelled"
        assert all(order["status"] in ("Confirmed", "Cancelled") for order in ended)
        confirmed = [order["id"] for order in ended if order["status"] == "Confirmed"]
        assert all(charge_of(cluster, order_id) == ["charged"] for order_id in confirmed)
        eventually(lambda: admin.stock(product) == (4, len(buyers(cluster, product))), "as many set aside as sold")
        assert set(confirmed) <= buyers(cluster, product)  # one refused at the door may have got in, even just now
        assert all_alive(cluster, before)

    def test_is_not_ready_meanwhile(self, cluster: Cluster, private_servers: Servers) -> None:
        """Every service says so itself, and is ready again by itself."""
        private_servers.kill("rabbitmq")

        for service in cluster.children:
            eventually(partial(is_not_ready, cluster, service), service)
            assert direct_session().get(f"{cluster.url_of(service)}/healthz", timeout=5).status_code == 200
        private_servers.restart("rabbitmq")

        cluster.wait_ready()


def is_not_ready(cluster: Cluster, service: str) -> bool:
    """Whether the service itself says so."""
    return direct_session().get(f"{cluster.url_of(service)}/readyz", timeout=5).status_code == 503


class TestDatabase:
    """PostgreSQL goes away."""

    @pytest.mark.parametrize("hurt", ["kill", "freeze"])
    def test_is_said_at_the_door_and_survived(
        self,
        cluster: Cluster,
        operator: Operator,
        private_servers: Servers,
        admin: Client,
        customer: Client,
        hurt: str,
    ) -> None:
        """503 at once; afterwards the order that was on its way ends well, and no service was started again."""
        product, before = admin.add_product(stock=5), processes(cluster)
        order_id = customer.place(product, method="pm_slow")

        getattr(private_servers, hurt)("postgres")
        is_refused_in_time(lambda: customer.ask("POST", "/api/order", a_wish(product)))
        is_refused_in_time(lambda: customer.ask("GET", "/api/order"))
        is_refused_in_time(lambda: admin.ask("GET", f"/api/inventory/products/{product}/stock"))
        private_servers.restart("postgres") if hurt == "kill" else private_servers.thaw("postgres")
        cluster.wait_ready()
        come_to_rest(cluster, operator, seconds=60)

        assert customer.order(order_id)["status"] == "Confirmed"
        assert charge_of(cluster, order_id) == ["charged"]
        customer.wait_for(customer.place(product), "Confirmed")
        assert operator.dead_letters() == []
        assert all_alive(cluster, before)

    def test_with_a_key_places_one_order_whatever_was_answered(
        self, cluster: Cluster, private_servers: Servers, admin: Client, customer: Client
    ) -> None:
        """Asked again with the same key until it is accepted, there is one order."""
        product, key = admin.add_product(stock=5), str(uuid4())
        customer.wait_for(customer.place(product), "Confirmed")
        private_servers.kill("postgres")
        assert customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key).status_code == 503
        private_servers.restart("postgres")

        answers = [
            eventually(lambda: accepted(customer, product, key), "accepted"),
            eventually(lambda: accepted(customer, product, key), "accepted again"),
        ]

        assert len(set(answers)) == 1
        customer.wait_for(answers[0], "Confirmed")
        assert admin.stock(product) == (5, 2)


def accepted(customer: Client, product: str, key: str) -> str:
    """The id of the order; empty when it was refused for now."""
    answer = customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key)
    return str(answer.json()["id"]) if answer.status_code == 201 else ""


class TestCopies:
    """Valkey goes away."""

    @pytest.mark.parametrize("hurt", ["kill", "freeze"])
    def test_is_not_missed_but_by_the_mails(
        self, cluster: Cluster, private_servers: Servers, admin: Client, customer: Client, hurt: str
    ) -> None:
        """Same answers, every order through; the mails wait and come once."""
        product = admin.add_product(stock=3)
        newcomer = Client.register(cluster.url)
        getattr(private_servers, hurt)("valkey")

        order_id = newcomer.place(product)
        newcomer.wait_for(order_id, "Confirmed")
        assert newcomer.good("GET", "/api/auth/me")["id"] == newcomer.user_id
        assert customer.good("GET", f"/api/inventory/products/{product}")["available"] == 2
        assert newcomer.cancel(order_id)["status"] == "Cancelled"
        newcomer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")
        leaving = Client.register(cluster.url)
        assert leaving.ask("POST", "/api/auth/logout").status_code == 204
        assert leaving.ask("GET", "/api/auth/me").status_code == 401
        assert mails(cluster, order_id) == []

        private_servers.restart("valkey") if hurt == "kill" else private_servers.thaw("valkey")
        eventually(lambda: {"receipt", "closing", "refund"} <= set(mails(cluster, order_id)), "mails", seconds=30)

    def test_that_forgets_everything_changes_no_answer(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Flushed in the middle of an order; a token that was given back stays invalid."""
        product = admin.add_product(stock=3)
        leaving = Client.register(cluster.url)
        assert leaving.ask("POST", "/api/auth/logout").status_code == 204
        order_id = customer.place(product, method="pm_slow")

        cluster.flush_redis()

        assert leaving.ask("GET", "/api/auth/me").status_code == 401
        customer.wait_for(order_id, "Confirmed")
        until_mails(cluster, order_id, "confirmation", "receipt")


class TestBusyGateway:
    """A gateway that never has an idle moment."""

    def test_keeps_its_connection(self, cluster: Cluster, customer: Client) -> None:
        """Several heartbeats long one request after the other, and not one of them is refused."""
        cluster.start("gateway", instances=2, environment={"HEARTBEAT": "1"})
        busy = Client(cluster.url_of("gateway-2"))
        end = monotonic() + 5

        statuses = set()
        while monotonic() < end:
            statuses.add(busy.ask("GET", "/api/inventory/products").status_code)

        assert statuses == {200}
        cluster.heal()
