from concurrent.futures import ThreadPoolExecutor

import pytest

from services.chassis.auth import Principal
from services.chassis.errors import TooMany
from tests.integration.orders.stage import Stage
from tests.support.fakes import a_caller
from tests.unit.orders.builders import payment_processed


class TestOpenOrders:
    """How many Pending orders somebody may have."""

    def test_are_no_more_than_may_be(self, stage: Stage, customer: Principal) -> None:
        """TooMany, with the time to come back; another customer is not concerned."""
        stage.most_open = 2
        orders = [stage.place(customer) for _ in range(2)]

        with pytest.raises(TooMany, match="too_many_open_orders") as refusal:
            stage.place(customer)
        stage.place(a_caller())
        stage.deliver("on_payment_processed", payment_processed(stage.load(orders[0]["id"])))
        stage.place(customer)

        assert refusal.value.extra["retry_after"] > 0
        with pytest.raises(TooMany):
            stage.place(customer)

    def test_are_no_more_when_all_are_placed_at_once(self, stage: Stage, customer: Principal) -> None:
        """Whoever places one waits for the other to be counted."""
        stage.most_open = 3
        body = {"items": [{"productId": str(stage.stock().product_id), "quantity": 2}]}

        def place(_: int) -> bool:
            try:
                stage.serve(customer).place_order(body)
            except TooMany:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            placed = list(pool.map(place, range(8)))

        assert placed.count(True) == len(stage.rows("SELECT id FROM orders")) == 3

    def test_do_not_hide_an_order_that_was_placed_before(self, stage: Stage, customer: Principal) -> None:
        """A key is answered as the first time."""
        stage.most_open = 1
        body = {"items": [{"productId": str(stage.stock().product_id), "quantity": 2}]}
        first = stage.serve(customer).place_order(body, idempotency_key="k-1")

        again = stage.serve(customer).place_order(body, idempotency_key="k-1")

        assert again == {"order": first["order"], "replayed": True}
