from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from services.chassis import wire
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, mails, movements_of, refunds_of
from tests.support.operator import Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually

BUYERS = 50


@pytest.fixture(scope="module")
def buyers(cluster: Cluster) -> list[Client]:
    """Fifty customers."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda _: Client.register(cluster.url), range(BUYERS)))


def outbox(cluster: Cluster, service: str, order_id: str, event_type: str) -> list[dict[str, Any]]:
    """The order's events of that type in the service's outbox."""
    query = "SELECT event_id, event_type, payload FROM outbox WHERE order_id = %s AND event_type = %s ORDER BY id"
    return cluster.rows(service, query, order_id, event_type)


class TestStock:
    """More buyers than there are units."""

    @pytest.mark.parametrize(("crowd", "units"), [(10, 1), (50, 10)])
    def test_goes_to_exactly_as_many_as_it_serves(
        self, cluster: Cluster, admin: Client, buyers: list[Client], crowd: int, units: int
    ) -> None:
        """The others are cancelled for want of stock and never charged, and not one unit too many is set aside."""
        product = admin.add_product(stock=units)

        with ThreadPoolExecutor(crowd) as pool:
            orders = list(pool.map(lambda buyer: buyer.place(product), buyers[:crowd]))
        ended = [
            eventually(partial(settled, buyer, order), order, seconds=60)
            for buyer, order in zip(buyers, orders, strict=False)
        ]

        found = Counter((order["status"], order["statusReason"]) for order in ended)
        assert found == {("Confirmed", None): units, ("Cancelled", "out_of_stock"): crowd - units}
        assert admin.stock(product) == (units, units)
        charged = {order["id"] for order in ended if charge_of(cluster, order["id"])}
        assert charged == {order["id"] for order in ended if order["status"] == "Confirmed"}


def settled(buyer: Client, order_id: str) -> dict[str, Any] | None:
    """The order once it has ended."""
    order = buyer.order(order_id)
    return order if order["status"] != "Pending" else None


class TestCancel:
    """Somebody cancels while something else happens to the order."""

    def test_against_the_capture_never_keeps_money(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Cancelled at any moment of its way: what was charged is refunded, the shelf is full again."""
        product = admin.add_product(stock=12)
        orders = []

        for _ in range(12):
            order_id = customer.place(product)
            orders.append(order_id)
            customer.cancel(order_id)

        for order_id in orders:
            order = eventually(partial(paid_back, customer, order_id), order_id)
            assert order["statusReason"] == "customer"
            assert len(refunds_of(cluster, order_id)) == charge_of(cluster, order_id).count("charged")
        eventually(lambda: admin.stock(product) == (12, 0), "all given back")

    def test_by_many_at_once_is_one(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Customer and staff, several times each: everybody gets 200, and there is one OrderCancelledEvent."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed")

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda who: who.cancel(order_id), [customer, admin] * 4))

        assert {answer["status"] for answer in answers} == {"Cancelled"}
        assert len({answer["statusReason"] for answer in answers}) == 1
        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")
        assert len(outbox(cluster, "orders", order_id, "OrderCancelledEvent")) == 1

    def test_against_the_deadline_is_one(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Whoever comes second finds it cancelled."""
        order_id = customer.place(admin.add_product(stock=1), method="pm_slow")

        cluster.expire(order_id)
        customer.cancel(order_id)

        eventually(partial(paid_back, customer, order_id), order_id)
        first, *more = outbox(cluster, "orders", order_id, "OrderCancelledEvent")
        assert wire.decode(first["payload"])["reason"] in ("customer", "expired")
        assert [wire.decode(each["payload"])["reason"] for each in more] == [
            wire.decode(first["payload"])["reason"]
        ] * len(more)  # a reminder repeats it

    def test_against_shipping_lets_one_win(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Either it is on its way and stays sold, or it is cancelled and everything goes back."""
        product = admin.add_product(stock=6)
        orders = [customer.place(product) for _ in range(6)]
        for order_id in orders:
            customer.wait_for(order_id, "Confirmed")

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda order_id: admin.ask("POST", f"/api/order/{order_id}/ship", {}), orders))
            list(pool.map(lambda order_id: customer.ask("POST", f"/api/order/{order_id}/cancel"), reversed(orders)))

        shipped = [order_id for order_id in orders if customer.order(order_id)["status"] == "Shipped"]
        eventually(lambda: admin.stock(product) == (6 - len(shipped), 0), "one or the other")


def paid_back(customer: Client, order_id: str) -> dict[str, Any] | None:
    """The cancelled order once its money is where it belongs."""
    order = customer.order(order_id)
    return order if order["paymentStatus"] in ("Refunded", "Voided") else None


class TestDeadline:
    """An order that takes too long."""

    def test_stays_cancelled_when_the_payment_comes_late(
        self, cluster: Cluster, admin: Client, customer: Client
    ) -> None:
        """Expired, refunded, told once; a payment seconds later changes nothing."""
        product = admin.add_product(stock=1)
        order_id = customer.place(product, method="pm_slow")
        eventually(lambda: charge_of(cluster, order_id), "charged")

        cluster.expire(order_id)
        customer.wait_for(order_id, "Cancelled", statusReason="expired", paymentStatus="Refunded")

        eventually(lambda: admin.stock(product) == (1, 0), "given back")
        eventually(lambda: mails(cluster, order_id) == ["closing", "refund"], "told")


@pytest.fixture
def without_inventory(cluster: Cluster) -> Iterator[None]:
    """Inventory is away."""
    cluster.stop("inventory")
    yield
    cluster.start("inventory")


class TestOutOfOrder:
    """Events that overtake each other."""

    def test_a_cancellation_before_its_order_leaves_a_tombstone(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """Inventory and payments hear of the cancellation first: nothing is set aside or charged, ever."""
        product = admin.add_product(stock=1)
        created = cluster.subscription("inventory.on_order_created")

        with operator.cut(created):
            order_id = customer.place(product)
            customer.cancel(order_id)
            customer.wait_for(order_id, "Cancelled", paymentStatus="Voided")
        come_to_rest(cluster, operator)

        assert admin.stock(product) == (1, 0)
        assert movements_of(cluster, order_id) == []
        assert charge_of(cluster, order_id) == []
        (row,) = cluster.rows("inventory", "SELECT status FROM reservations WHERE order_id = %s", order_id)
        assert row["status"] == "tombstone"

    def test_a_cancellation_before_the_reservation_arrives_voids_the_payment(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """The late InventoryReservedEvent finds a voided payment and does nothing."""
        product = admin.add_product(stock=1)
        reserved = cluster.subscription("payments.on_inventory_reserved")

        with operator.cut(reserved):
            order_id = customer.place(product)
            eventually(lambda: admin.stock(product) == (1, 1), "set aside")
            customer.cancel(order_id)
            customer.wait_for(order_id, "Cancelled", paymentStatus="Voided")
        come_to_rest(cluster, operator)

        assert admin.stock(product) == (1, 0)
        assert charge_of(cluster, order_id) == []

    def test_only_a_newer_description_of_a_product_is_taken_over(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """An old ProductChangedEvent that comes again changes no price, and an order keeps the one it was placed at."""
        product = admin.add_product(stock=5, price=10)
        order_id = customer.place(product)
        for price in (11, 12):
            admin.good("PATCH", f"/api/inventory/products/{product}", {"price": price})
        eventually(lambda: known_price(cluster, product) == 1200, "the copy knows the price")

        query = "SELECT event_id, event_type, payload FROM outbox WHERE payload LIKE %s ORDER BY id"
        changes = cluster.rows("inventory", query, f"%{product}%unit_price%")
        changes = [each for each in changes if each["event_type"] == "ProductChangedEvent"]
        assert all(version(first) < version(second) for first, second in pairwise(changes))
        stale = {**wire.decode(changes[0]["payload"]), "event_id": None}  # as if it had been lost until now
        before = operator.handled()["orders.on_product_changed"]
        operator.dispatch("inventory", "ProductChangedEvent", stale)
        eventually(lambda: operator.handled()["orders.on_product_changed"] > before, "handled")

        assert known_price(cluster, product) == 1200
        assert customer.order(order_id)["totalAmount"] == 10
        refused = customer.ask("POST", "/api/order", {"items": [{"productId": product, "quantity": 1, "price": 10}]})
        assert (refused.status_code, refused.json()["code"]) == (409, "price_changed")


def known_price(cluster: Cluster, product: str) -> int:
    """What the orders' copy of the catalogue says the product costs."""
    query = "SELECT unit_price_cents FROM catalogue WHERE product_id = %s"
    (row,) = cluster.rows("orders", query, product) or [{"unit_price_cents": 0}]
    return int(row["unit_price_cents"])


def version(event: dict[str, Any]) -> int:
    """The version of the product that the event tells of."""
    return int(wire.decode(event["payload"])["product_version"])


class TestSettlement:
    """A cancelled order whose answers got lost."""

    def test_is_reminded_of_until_both_have_answered(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """Told again under a new id, inventory and payments repeat their outcome under the old one."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed")
        customer.cancel(order_id)
        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")
        come_to_rest(cluster, operator)

        forget = """UPDATE orders SET stock_settled_at = NULL, payment_settled_at = NULL,
            cancelled_at = now() - interval '1 hour' WHERE id = %s"""
        cluster.execute("orders", forget, order_id)
        handlers = ("InventoryReleasedEvent", "PaymentRefundedEvent")
        cluster.execute("orders", "DELETE FROM inbox WHERE order_id = %s AND event_type IN %s", order_id, handlers)
        eventually(lambda: is_settled(cluster, order_id), "settled again")

        told = outbox(cluster, "orders", order_id, "OrderCancelledEvent")
        assert len({each["event_id"] for each in told}) == 2
        refunded = outbox(cluster, "payments", order_id, "PaymentRefundedEvent")
        assert (len(refunded), len({each["event_id"] for each in refunded})) == (2, 1)
        assert refunds_of(cluster, order_id) == [2100]


def is_settled(cluster: Cluster, order_id: str) -> bool:
    """Whether orders knows that everything went back."""
    query = "SELECT 1 FROM orders WHERE id = %s AND num_nulls(stock_settled_at, payment_settled_at) = 0"
    return bool(cluster.rows("orders", query, order_id))
