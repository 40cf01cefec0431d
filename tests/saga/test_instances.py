from collections.abc import Iterator

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.operator import Operator
from tests.support.rest import come_to_rest


@pytest.fixture(autouse=True)
def _healed(cluster: Cluster) -> Iterator[None]:
    """One instance of each service again, none of them frozen."""
    yield
    cluster.heal()


class TestScaled:
    """Two of every service."""

    def test_shares_the_work(self, cluster: Cluster, operator: Operator, admin: Client, customer: Client) -> None:
        """Twenty orders, each ends once, and both instances of inventory had some."""
        cluster.start("orders", "inventory", "payments", "notifications", instances=2)
        product = admin.add_product(stock=15)

        orders = [customer.place(product) for _ in range(20)]
        come_to_rest(cluster, operator)

        ended = [customer.order(order_id)["status"] for order_id in orders]
        assert (ended.count("Confirmed"), ended.count("Cancelled")) == (15, 5)
        assert admin.stock(product) == (15, 15)
