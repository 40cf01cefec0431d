from collections.abc import Iterator
from functools import partial

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, status_of
from tests.support.operator import Operator
from tests.support.rest import come_to_rest, eventually


@pytest.fixture(autouse=True)
def _healed(cluster: Cluster) -> Iterator[None]:
    """One instance of each service again, none of them frozen."""
    yield
    cluster.heal()


class TestFrozen:
    """A process that hangs and then goes on, as if nothing had been."""

    @pytest.mark.parametrize("service", ["inventory", "payments", "orders"])
    def test_does_nothing_twice(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, product: str, service: str
    ) -> None:
        """Longer than the broker waits for a heartbeat: its work is done once, by it or by another instance."""
        cluster.start(service, instances=2)
        orders = [customer.place(product, method="pm_slow") for _ in range(2)]
        eventually(lambda: any(charge_of(cluster, order_id) for order_id in orders), "charged")

        cluster.freeze(service)
        for order_id in orders:
            eventually(partial(is_confirmed, cluster, order_id), order_id, seconds=40)
        cluster.thaw(service)
        come_to_rest(cluster, operator)

        assert admin.stock(product) == (3, 2)
        for order_id in orders:
            assert charge_of(cluster, order_id) == ["charged"]


def is_confirmed(cluster: Cluster, order_id: str) -> bool:
    """Whether it is, as the database says while an instance of orders hangs."""
    return status_of(cluster, order_id) == "Confirmed"


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
