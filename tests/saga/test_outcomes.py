from typing import Any

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, movements_of, refunds_of, until_mails
from tests.support.operator import Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually


class TestPaid:
    """An order for which there is enough of everything."""

    def test_is_confirmed(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Stock is set aside, the money is taken once, a confirmation and a receipt are sent."""
        product = admin.add_product(stock=5, price=21.0)

        order_id = customer.place(product, quantity=2)
        order = customer.wait_for(order_id, "Confirmed", paymentStatus="Completed")

        assert (order["totalAmount"], order["statusReason"], order["allowedActions"]) == (42.0, None, ["cancel"])
        assert admin.stock(product) == (5, 2)
        assert charge_of(cluster, order_id) == ["charged"]
        assert movements_of(cluster, order_id) == [("reserved", 2)]
        until_mails(cluster, order_id, "confirmation", "receipt")

    def test_shows_its_journey(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Every service tells its steps, in the order of time, each with what caused it."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed")
        until_mails(cluster, order_id, "confirmation", "receipt")

        journey = eventually(lambda: complete(customer.journey(order_id)))

        assert journey["missing"] == []
        assert [step["at"] for step in journey["steps"]] == sorted(step["at"] for step in journey["steps"])
        fields = {"at", "service", "event", "eventId", "causationId", "attempt", "outcome", "note"}
        assert all(set(step) == fields for step in journey["steps"])
        caused = {step["eventId"]: step["causationId"] for step in journey["steps"] if step["eventId"]}
        assert all(cause is None or cause in caused for cause in caused.values())

    def test_goes_out_and_arrives(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Shipping takes it off the shelf once, however often it is said; delivery ends it."""
        product = admin.add_product(stock=3)
        order_id = customer.place(product)
        customer.wait_for(order_id, "Confirmed")

        assert customer.ask("POST", f"/api/order/{order_id}/ship", {}).status_code == 403
        assert admin.ask("POST", f"/api/order/{order_id}/deliver").status_code == 409
        assert admin.ship(order_id)["status"] == "Shipped"
        assert admin.ship(order_id)["status"] == "Shipped"
        eventually(lambda: admin.stock(product) == (2, 0), "off the shelf")
        assert customer.ask("POST", f"/api/order/{order_id}/cancel").json()["code"] == "illegal_transition"
        assert admin.deliver(order_id)["status"] == "Delivered"

        assert movements_of(cluster, order_id) == [("reserved", 1), ("shipped", -1)]
        until_mails(cluster, order_id, "confirmation", "receipt", "shipping", "delivery")


class TestRefused:
    """An order that the stock or the card cannot serve."""

    def test_names_every_short_line(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Nothing is set aside, nothing is charged, one mail says why."""
        there, short, none = admin.add_product(stock=9), admin.add_product(stock=1), admin.add_product(stock=0)

        order_id = customer.place(there, short, none, quantity=3)
        customer.wait_for(order_id, "Cancelled", statusReason="out_of_stock", paymentStatus="Voided")

        (failed,) = cluster.rows("inventory", "SELECT shortages FROM reservations WHERE order_id = %s", order_id)
        found = {each["product_id"]: (each["requested"], each["available"]) for each in failed["shortages"]}
        assert found == {short: (3, 1), none: (3, 0)}
        assert [admin.stock(each) for each in (there, short, none)] == [(9, 0), (1, 0), (0, 0)]
        assert charge_of(cluster, order_id) == []
        until_mails(cluster, order_id, "closing")

    @pytest.mark.parametrize("method", ["pm_declined", "pm_fraud"])
    def test_gives_the_stock_back_when_the_card_is_declined(
        self, cluster: Cluster, admin: Client, customer: Client, method: str
    ) -> None:
        """Cancelled, nothing taken, one mail."""
        product = admin.add_product(stock=2)

        order_id = customer.place(product, method=method)
        customer.wait_for(order_id, "Cancelled", statusReason="payment_failed", paymentStatus="Failed")

        eventually(lambda: admin.stock(product) == (2, 0), "given back")
        assert charge_of(cluster, order_id) == ["declined"]
        until_mails(cluster, order_id, "closing")


class TestProcessor:
    """A card processor that does not do as it should."""

    def test_is_asked_again_after_an_error(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """The second try takes the money, once."""
        order_id = customer.place(admin.add_product(stock=1), method="pm_error_then_ok")

        customer.wait_for(order_id, "Confirmed")

        query = "SELECT outcome FROM attempts JOIN payments ON payments.id = payment_id WHERE order_id = %s ORDER BY 1"
        assert [row["outcome"] for row in cluster.rows("payments", query, order_id)] == ["charged", "unanswered"]
        assert charge_of(cluster, order_id) == ["charged"]

    @pytest.mark.parametrize("method", ["pm_slow", "pm_duplicate"])
    def test_may_be_slow_or_say_it_twice(self, cluster: Cluster, admin: Client, customer: Client, method: str) -> None:
        """One charge, one receipt."""
        order_id = customer.place(admin.add_product(stock=1), method=method)

        customer.wait_for(order_id, "Confirmed")

        assert charge_of(cluster, order_id) == ["charged"]
        until_mails(cluster, order_id, "confirmation", "receipt")

    def test_that_never_answers_is_fenced_off(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """After five tries the charge is abandoned, the order cancelled and the stock free again."""
        product = admin.add_product(stock=1)

        order_id = customer.place(product, method="pm_timeout")
        customer.wait_for(order_id, "Cancelled", seconds=40, statusReason="payment_failed", paymentStatus="Failed")

        eventually(lambda: admin.stock(product) == (1, 0), "given back")
        assert charge_of(cluster, order_id) == ["abandoned"]


class TestCancelled:
    """An order that its customer does not want any more."""

    def test_gets_everything_back(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """After Confirmed: stock free, money returned in full, and the customer told."""
        product = admin.add_product(stock=4, price=10.5)
        order_id = customer.place(product, quantity=2)
        customer.wait_for(order_id, "Confirmed")
        until_mails(cluster, order_id, "confirmation", "receipt")

        assert customer.cancel(order_id, "changed my mind")["statusReason"] == "customer"
        assert customer.cancel(order_id)["status"] == "Cancelled"
        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")

        eventually(lambda: admin.stock(product) == (4, 0), "given back")
        assert refunds_of(cluster, order_id) == [2100]
        until_mails(cluster, order_id, "confirmation", "receipt", "closing", "refund")

    def test_while_it_is_being_charged(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """The charge that arrives late is returned; no confirmation follows the cancellation."""
        product = admin.add_product(stock=1)
        order_id = customer.place(product, method="pm_slow")
        eventually(lambda: charge_of(cluster, order_id), "charged")

        assert customer.cancel(order_id)["status"] == "Cancelled"
        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")

        assert refunds_of(cluster, order_id) == [2100]
        eventually(lambda: admin.stock(product) == (1, 0), "given back")
        until_mails(cluster, order_id, "closing", "refund")

    def test_by_staff_says_so(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """The reason is staff, and a stranger cannot do it."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed")

        stranger = Client.register(cluster.url)
        assert stranger.ask("POST", f"/api/order/{order_id}/cancel").status_code == 404
        assert stranger.ask("GET", f"/api/order/{order_id}/journey").status_code == 404
        assert admin.cancel(order_id)["statusReason"] == "staff"

        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")


class TestLeavesNothingBehind:
    """What is there when everything is through."""

    def test_empties_every_outbox(self, cluster: Cluster, operator: Operator, admin: Client, customer: Client) -> None:
        """No row waits, no message is left in a queue, and nothing was given up."""
        customer.wait_for(customer.place(admin.add_product(stock=1)), "Confirmed")

        come_to_rest(cluster, operator)

        assert operator.dead_letters() == []


def complete(journey: dict[str, Any]) -> dict[str, Any]:
    """The journey once all four services and both mails are in it; else nothing."""
    services = {step["service"] for step in journey["steps"]}
    sent = [step for step in journey["steps"] if step["outcome"] == "sent"]
    return journey if services == {"orders", "inventory", "payments", "notifications"} and len(sent) == 2 else {}
