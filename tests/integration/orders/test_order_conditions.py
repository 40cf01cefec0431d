"""Writes that are meant for one state of an order only."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

from services.chassis import wire
from services.chassis.auth import Principal
from services.chassis.errors import Conflict, NotFound
from services.chassis.tags import entity_tag
from tests.integration.orders.stage import Stage
from tests.support.fakes import a_caller
from tests.unit.orders.builders import STAFF, payment_processed


def tag_of(view: Mapping[str, Any]) -> str:
    """The ETag under which the gateway sends the order."""
    return entity_tag(wire.encode(wire.decode(wire.encode(view))))


class TestIfMatch:
    """Who says what they know writes over nothing else."""

    def test_cancels_what_the_customer_has_seen(self, stage: Stage, customer: Principal) -> None:
        """As the order was answered when it was placed, or read since."""
        order = stage.place(customer)
        seen = stage.serve(customer).get_order(order["id"])

        assert tag_of(order) == tag_of(seen)
        done = stage.serve(customer).cancel_order(order["id"], {}, if_match=tag_of(seen))["order"]
        assert done["status"] == "Cancelled"

    def test_changes_nothing_that_was_changed_meanwhile(self, stage: Stage, customer: Principal) -> None:
        """The order was paid: it stays as it is, nothing is told."""
        order = stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(order["id"])))
        told = stage.published(UUID(order["id"]))

        with pytest.raises(Conflict, match="precondition_failed"):
            stage.serve(customer).cancel_order(order["id"], {}, if_match=tag_of(order))

        assert stage.load(order["id"]).status == "Confirmed"
        assert stage.published(UUID(order["id"])) == told

    def test_holds_for_each_step_of_the_staff(self, stage: Stage, customer: Principal) -> None:
        """What another saw is not what they see: an order shows each caller what they may do with it."""
        order = stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(order["id"])))
        theirs, seen = (tag_of(stage.serve(who).get_order(order["id"])) for who in (customer, STAFF))

        with pytest.raises(Conflict, match="precondition_failed"):
            stage.serve(STAFF).ship_order(order["id"], {}, if_match=theirs)
        shipped = stage.serve(STAFF).ship_order(order["id"], {}, if_match=seen)
        with pytest.raises(Conflict, match="precondition_failed"):
            stage.serve(STAFF).deliver_order(order["id"], if_match=seen)
        delivered = stage.serve(STAFF).deliver_order(order["id"], if_match=tag_of(shipped))

        assert delivered["status"] == "Delivered"

    def test_tells_a_stranger_nothing(self, stage: Stage, customer: Principal) -> None:
        """The order is not found, whatever they claim to know."""
        order = stage.place(customer)

        with pytest.raises(NotFound):
            stage.serve(a_caller()).cancel_order(order["id"], {}, if_match="*")

    def test_gets_the_first_answer_again_with_a_key(self, stage: Stage, customer: Principal) -> None:
        """What the first request has seen is gone by then, and that is its own doing."""
        order = stage.place(customer)
        asked = {"idempotency_key": "once", "if_match": tag_of(order)}

        first, again = (stage.serve(customer).cancel_order(order["id"], {}, **asked) for _ in range(2))

        assert again == {"order": first["order"], "replayed": True}

    def test_lets_one_of_many_through(self, stage: Stage, customer: Principal) -> None:
        """All of them have seen the same; it is decided under the lock."""
        order = stage.place(customer)

        def cancel(number: int) -> str:
            try:
                stage.serve(customer).cancel_order(order["id"], {"reason": str(number)}, if_match=tag_of(order))
            except Conflict as conflict:
                return conflict.code
            return "cancelled"

        with ThreadPoolExecutor(4) as pool:
            outcomes = sorted(pool.map(cancel, range(6)))

        assert outcomes == ["cancelled", *["precondition_failed"] * 5]
        assert len(stage.published(UUID(order["id"]))) == 2
