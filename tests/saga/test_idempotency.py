from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster


class TestIdempotencyKey:
    """The same request sent more than once, on purpose or by accident."""

    def test_gets_the_first_answer_again(self, admin: Client, customer: Client) -> None:
        """Status, Location and body are those of the first time, and there is one order."""
        product, key = admin.add_product(stock=5), str(uuid4())

        first = customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key)
        customer.wait_for(first.json()["id"], "Confirmed")
        second = customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key)

        assert (first.status_code, second.status_code) == (201, 201)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert (second.headers["Location"], second.json()) == (first.headers["Location"], first.json())
        assert admin.stock(product) == (5, 1)

    def test_is_not_good_for_another_body(self, admin: Client, customer: Client) -> None:
        """A reused key is refused and places nothing."""
        product, key = admin.add_product(stock=5), str(uuid4())
        customer.wait_for(customer.place(product, key=key), "Confirmed")

        refused = customer.ask("POST", "/api/order", a_wish(product, quantity=2), Idempotency_Key=key)

        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")
        assert admin.stock(product) == (5, 1)

    def test_belongs_to_one_customer(self, cluster: Cluster, admin: Client, customer: Client) -> None:
        """Somebody else's same key is another key."""
        product, key = admin.add_product(stock=5), str(uuid4())

        mine = customer.place(product, key=key)
        theirs = Client.register(cluster.url).place(product, key=key)

        assert mine != theirs

    def test_places_one_order_for_twenty_clients_at_once(self, admin: Client, customer: Client) -> None:
        """Each gets that order, or is told that the key is in use."""
        product, key = admin.add_product(stock=30), str(uuid4())

        def place(_: int) -> tuple[int, str]:
            answer = customer.ask("POST", "/api/order", a_wish(product), Idempotency_Key=key)
            return answer.status_code, answer.json()["id" if answer.ok else "code"]

        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(place, range(20)))

        placed = {said for status, said in answers if status == 201}
        assert len(placed) == 1
        assert {(status, said) for status, said in answers if status != 201} <= {(409, "idempotency_key_in_use")}
        customer.wait_for(placed.pop(), "Confirmed")
        assert admin.stock(product) == (30, 1)

    def test_of_a_cancellation_gets_the_first_answer_too(self, admin: Client, customer: Client) -> None:
        """The answer is the order as it was at the first cancel."""
        order_id, key = customer.place(admin.add_product(stock=1)), str(uuid4())
        customer.wait_for(order_id, "Confirmed")
        path = f"/api/order/{order_id}/cancel"

        first = customer.ask("POST", path, {}, Idempotency_Key=key)
        customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded")
        second = customer.ask("POST", path, {}, Idempotency_Key=key)

        assert (first.status_code, second.status_code) == (200, 200)
        assert second.headers["Idempotent-Replayed"] == "true"
        assert second.json() == first.json()
