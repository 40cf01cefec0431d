from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, is_sold_once, mails
from tests.support.until import eventually


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
