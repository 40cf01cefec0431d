from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import uuid4

import pytest
import requests

from services.chassis.topology import Subscription
from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, is_sold_once, mails, refunds_of, until_mails
from tests.support.operator import Operator
from tests.support.rest import eventually


@pytest.fixture(autouse=True)
def _healed(cluster: Cluster) -> Iterator[None]:
    """Whatever a test leaves dead is started again."""
    yield
    cluster.heal()


class TestAway:
    """A service that is not there when its event comes."""

    @pytest.mark.parametrize("service", ["inventory", "payments"])
    def test_finds_it_when_it_is_back(
        self, cluster: Cluster, admin: Client, customer: Client, product: str, service: str
    ) -> None:
        """The order waits as long as that takes, and is confirmed afterwards."""
        customer.wait_for(customer.place(product), "Confirmed")  # so that the price of the product is known
        admin.adjust(product, 1)
        assert cluster.stop(service) == {service: 0}

        order_id = customer.place(product)
        assert customer.order(order_id)["status"] == "Pending"
        cluster.start(service)

        customer.wait_for(order_id, "Confirmed")
        assert charge_of(cluster, order_id) == ["charged"]
        assert admin.stock(product) == (4, 2)

    def test_notifications_tell_everything_later(
        self, cluster: Cluster, admin: Client, customer: Client, product: str
    ) -> None:
        """An order does not wait for its mails; the mails wait."""
        cluster.stop("notifications")

        order_id = customer.place(product)
        customer.wait_for(order_id, "Confirmed")
        assert customer.journey(order_id)["missing"] == ["notifications"]
        assert mails(cluster, order_id) == []
        cluster.start("notifications")

        is_sold_once(cluster, admin, product, order_id)

    def test_users_are_not_needed_for_an_order(self, cluster: Cluster, admin: Client, product: str) -> None:
        """Who has a token can buy; only the mails of a new customer wait until somebody knows the address."""
        newcomer = Client.register(cluster.url)
        cluster.kill("users")

        order_id = newcomer.place(product)
        newcomer.wait_for(order_id, "Confirmed")
        refused = Client(cluster.url).ask("POST", "/api/auth/login", {"email": newcomer.email, "password": "x"})
        assert refused.status_code in (503, 504)
        assert int(refused.headers["Retry-After"]) >= 1
        cluster.start("users")

        is_sold_once(cluster, admin, product, order_id)

    def test_orders_away_is_said_at_once(self, cluster: Cluster, customer: Client, product: str) -> None:
        """503 or 504 with Retry-After, and afterwards the same request with the same key places one order."""
        cluster.kill("orders")
        key = str(uuid4())

        refused = customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key)
        assert refused.status_code in (503, 504)
        assert int(refused.headers["Retry-After"]) >= 1
        cluster.start("orders")

        order_id = eventually(lambda: placed(customer, product, key), "accepted again")
        customer.wait_for(order_id, "Confirmed")


def placed(customer: Client, product: str, key: str) -> str:
    """The id of the order, or nothing when it was not accepted."""
    answer = customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key)
    assert answer.status_code in (201, 409, 503, 504), answer.text
    return str(answer.json()["id"]) if answer.status_code == 201 else ""


class TestKilledBeforeCommit:
    """A handler that had its event and whose process died before the transaction ended."""

    @pytest.mark.parametrize(
        ("service", "table"),
        [("inventory", "reservations"), ("payments", "payments"), ("orders", "order_history")],
    )
    def test_does_it_again(
        self, cluster: Cluster, admin: Client, customer: Client, product: str, service: str, table: str
    ) -> None:
        """The broker delivers the event again, and nothing is done twice."""
        with waiting_at_a_lock(cluster, service, table):
            placing = ThreadPoolExecutor(1).submit(customer.place, product)
            blocked(cluster, service)
            cluster.kill(service)
        order_id = "" if service == "orders" else placing.result()
        cluster.start(service)

        if service == "orders":  # the request itself was cut off: nothing of it is left
            with pytest.raises(AssertionError, match=r"50[34]"):
                placing.result()
            assert admin.stock(product) == (3, 0)
            return
        customer.wait_for(order_id, "Confirmed")
        is_sold_once(cluster, admin, product, order_id)

    def test_the_confirmation_is_made_again(
        self, cluster: Cluster, admin: Client, customer: Client, product: str
    ) -> None:
        """Orders dies with the payment's event in its hands."""
        order_id = customer.place(product, method="pm_slow")
        eventually(lambda: charge_of(cluster, order_id), "charged")

        with waiting_at_a_lock(cluster, "orders", "order_history"):
            blocked(cluster, "orders")
            cluster.kill("orders")
        cluster.start("orders")

        customer.wait_for(order_id, "Confirmed")
        is_sold_once(cluster, admin, product, order_id)


@contextmanager
def waiting_at_a_lock(cluster: Cluster, service: str, table: str) -> Iterator[None]:
    """While the block runs nobody can write into the table."""
    with cluster.held(service, f"LOCK TABLE {table} IN SHARE MODE"):
        yield


def blocked(cluster: Cluster, service: str) -> None:
    """Wait until somebody of the service waits for a lock."""
    query = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    eventually(lambda: cluster.rows(service, query), f"{service} waits")


class TestKilledAfterCommit:
    """A process that died with its events in the outbox and nobody told."""

    @pytest.mark.parametrize(
        ("service", "event"),
        [
            ("orders", "OrderCreatedEvent"),
            ("inventory", "InventoryReservedEvent"),
            ("payments", "PaymentProcessedEvent"),
        ],
    )
    def test_tells_it_when_it_is_back(
        self,
        cluster: Cluster,
        operator: Operator,
        admin: Client,
        customer: Client,
        product: str,
        service: str,
        event: str,
    ) -> None:
        """An event that cannot be routed waits in the outbox, also through a crash."""
        subscriptions = [each for each in cluster.subscriptions() if each.event == event]
        with uncoupled(operator, subscriptions):
            order_id = customer.place(product)
            eventually(lambda: refused(cluster, service, order_id, event), "refused by the broker")
            cluster.kill(service)
        cluster.start(service)

        customer.wait_for(order_id, "Confirmed")
        is_sold_once(cluster, admin, product, order_id)

    def test_a_refund_that_nobody_heard_of_is_told(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, product: str
    ) -> None:
        """Payments dies after the refund; its event reaches orders and the customer afterwards."""
        order_id = customer.place(product)
        customer.wait_for(order_id, "Confirmed")
        subscriptions = [each for each in cluster.subscriptions() if each.event == "PaymentRefundedEvent"]

        with uncoupled(operator, subscriptions):
            customer.cancel(order_id)
            eventually(lambda: refused(cluster, "payments", order_id, "PaymentRefundedEvent"), "refused")
            cluster.kill("payments")
        cluster.start("payments")

        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")
        assert refunds_of(cluster, order_id) == [2100]
        until_mails(cluster, order_id, "confirmation", "receipt", "closing", "refund")


@contextmanager
def uncoupled(operator: Operator, subscriptions: Sequence[Subscription]) -> Iterator[None]:
    """While the block runs none of these subscribers can be reached."""
    if not subscriptions:
        yield
        return
    with operator.cut(subscriptions[0]), uncoupled(operator, subscriptions[1:]):
        yield


def refused(cluster: Cluster, service: str, order_id: str, event: str) -> bool:
    """Whether the event was tried and waits in the outbox."""
    query = "SELECT 1 FROM outbox WHERE order_id = %s AND event_type = %s AND published_at IS NULL AND attempts > 0"
    return bool(cluster.rows(service, query, order_id, event))


class TestKilledAroundTheCharge:
    """The one step that is not ours: somebody else's book."""

    def test_between_charge_and_record_charges_once(
        self, cluster: Cluster, admin: Client, customer: Client, product: str
    ) -> None:
        """The next attempt has the same key, and the processor repeats its first answer."""
        order_id = customer.place(product, method="pm_slow")
        eventually(lambda: charge_of(cluster, order_id), "charged")
        cluster.kill("payments")
        assert customer.order(order_id)["status"] == "Pending"
        cluster.start("payments")

        customer.wait_for(order_id, "Confirmed")
        is_sold_once(cluster, admin, product, order_id)

    def test_between_refund_and_record_refunds_once(self, cluster: Cluster, customer: Client, product: str) -> None:
        """Likewise for money on its way back."""
        order_id = customer.place(product)
        customer.wait_for(order_id, "Confirmed")
        fault = "INSERT INTO processor.faults (target, call, kind) VALUES (%s, 'refund', 'lose')"
        cluster.execute("payments", fault, f"{order_id}:refund")

        customer.cancel(order_id)
        eventually(lambda: refunds_of(cluster, order_id), "refunded")
        cluster.kill("payments")
        cluster.start("payments")

        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")
        assert refunds_of(cluster, order_id) == [2100]

    def test_another_instance_takes_over(self, cluster: Cluster, admin: Client, customer: Client, product: str) -> None:
        """With two of payments, the death of one that had claimed a charge is not even a pause for long."""
        cluster.start("payments", instances=2)
        order_id = customer.place(product, method="pm_slow")
        eventually(lambda: charge_of(cluster, order_id), "charged")

        cluster.kill("payments")

        customer.wait_for(order_id, "Confirmed")
        is_sold_once(cluster, admin, product, order_id)


class TestKilledNotifications:
    """Whoever tells the customer."""

    def test_tells_it_again_only_when_it_was_not_told(self, cluster: Cluster, admin: Client, product: str) -> None:
        """Killed while it asks for the address: told once, afterwards."""
        newcomer = Client.register(cluster.url)
        cluster.freeze("users")
        order_id = newcomer.place(product)
        newcomer.wait_for(order_id, "Confirmed")

        cluster.kill("notifications")
        cluster.thaw("users")
        cluster.start("notifications")

        is_sold_once(cluster, admin, product, order_id)


class TestKilledGateway:
    """The door falls shut in mid-request."""

    def test_leaves_one_order_for_one_key(
        self, cluster: Cluster, admin: Client, customer: Client, product: str
    ) -> None:
        """The client gets no answer, asks again with the same key, and there is one order."""
        customer.wait_for(customer.place(product), "Confirmed")
        admin.adjust(product, 1)
        key = str(uuid4())
        with cluster.held("orders", "LOCK TABLE orders IN SHARE MODE"):
            asking = ThreadPoolExecutor(1).submit(placed, customer, product, key)
            blocked(cluster, "orders")
            cluster.kill("gateway")
        with pytest.raises(requests.ConnectionError):
            asking.result()
        cluster.start("gateway")

        order_id = eventually(lambda: placed(customer, product, key), "accepted")
        customer.wait_for(order_id, "Confirmed")
        assert admin.stock(product) == (4, 2)
