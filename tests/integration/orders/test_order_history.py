from typing import Any
from uuid import uuid4

import pytest

from services.chassis.auth import Principal, Stranger
from services.chassis.errors import InvalidInput, NotFound, Unauthenticated
from tests.integration.orders.stage import Stage
from tests.support.fakes import a_caller
from tests.unit.orders.builders import STAFF, inventory_released, payment_processed, payment_voided


class TestHistory:
    """What happened to an order, for who follows it."""

    def test_is_told_from_where_the_caller_is(self, stage: Stage, customer: Principal) -> None:
        """In the API's shape, without who exactly did it."""
        order = stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(order["id"])))

        whole, rest = (stage.serve(customer).list_history(order["id"], after) for after in (0, 1))

        assert [entry["number"] for entry in whole["entries"]] == [1, 2]
        assert rest == {
            "entries": [
                {
                    "number": 2,
                    "at": whole["entries"][1]["at"],
                    "event": "PaymentProcessedEvent",
                    "fromStatus": "Pending",
                    "toStatus": "Confirmed",
                    "actor": "payments",
                    "note": "",
                }
            ],
            "over": False,
        }

    def test_is_over_with_the_last_entry(self, stage: Stage, customer: Principal) -> None:
        """Delivered, or cancelled and settled."""
        sold, returned = stage.place(customer), stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(sold["id"])))
        stage.serve(STAFF).ship_order(sold["id"], {})
        stage.serve(customer).cancel_order(returned["id"], {})
        stage.deliver("on_inventory_released", inventory_released(stage.load(returned["id"])))
        before = [stage.serve(customer).list_history(each["id"])["over"] for each in (sold, returned)]

        stage.serve(STAFF).deliver_order(sold["id"])
        stage.deliver("on_payment_voided", payment_voided(stage.load(returned["id"])))

        after = [stage.serve(customer).list_history(each["id"])["over"] for each in (sold, returned)]
        assert (before, after) == ([False, False], [True, True])

    def test_is_not_for_others(self, stage: Stage, customer: Principal) -> None:
        """Unknown to them; staff may see it."""
        order = stage.place(customer)

        for order_id in (order["id"], str(uuid4()), "nonsense"):
            with pytest.raises(NotFound):
                stage.serve(a_caller()).list_history(order_id)
        assert stage.serve(STAFF).list_history(order["id"])["entries"]

    def test_of_many_is_one_question(self, stage: Stage, customer: Principal) -> None:
        """Each from its own number; what nobody knows is left out."""
        first, second = stage.place(customer), stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(first["id"])))
        nobody = Stranger(Unauthenticated("token_missing", "No."))

        news = stage.serve(nobody).follow_histories({first["id"]: 1, second["id"]: 1, str(uuid4()): 0})

        assert {order_id: [each["number"] for each in told["entries"]] for order_id, told in news.items()} == {
            first["id"]: [2],
            second["id"]: [],
        }
        assert [told["over"] for told in news.values()] == [False, False]

    @pytest.mark.parametrize("after", [{"x": 0}, {str(uuid4()): -1}, {str(uuid4()): "1"}, [], None])
    def test_of_many_is_asked_properly(self, stage: Stage, after: Any) -> None:
        """Or refused."""
        with pytest.raises(InvalidInput):
            stage.serve().follow_histories(after)
