from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from services.chassis import wire
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, movements_of, until_mails
from tests.support.operator import DeadLetter, Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually


@pytest.fixture(autouse=True)
def _emptied(operator: Operator) -> Iterator[None]:
    """What a test put into the dead letters is gone after it."""
    operator.purge_dead_letters()
    yield
    operator.purge_dead_letters()


def buried(operator: Operator, message_id: str) -> DeadLetter | None:
    """The message in the dead letters."""
    return next((letter for letter in operator.dead_letters() if letter.message_id == message_id), None)


def a_payment_of_nobody() -> dict[str, Any]:
    """A PaymentProcessedEvent about an order that does not exist: valid, and lasting to fail."""
    return {
        "order_id": str(uuid4()),
        "user_id": str(uuid4()),
        "payment_id": str(uuid4()),
        "amount_cents": 100,
        "currency": "EUR",
        "transaction_id": "ch_0",
    }


class TestPoison:
    """Messages that no handler can answer."""

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            (b"\x00\xff not JSON", "MalformedEvent: the body is not JSON"),
            (b"[]", "MalformedEvent: the body is not a JSON object"),
            (b'{"order_id": "secret-content"}', "MalformedEvent: not a valid OrderCreatedEvent"),
            (b"{" * 100_000, "MalformedEvent: the body is not JSON"),
        ],
    )
    def test_that_is_malformed_is_given_up_at_once(
        self, cluster: Cluster, operator: Operator, body: bytes, complaint: str
    ) -> None:
        """With a reason, and without its content in any log."""
        message_id = str(uuid4())

        operator.dispatch("orders", "OrderCreatedEvent", body, message_id=message_id)
        letter = eventually(lambda: buried(operator, message_id), "buried")

        assert letter.headers["x-oms-reason"].startswith(complaint)
        assert letter.headers["x-oms-handler"] == "inventory.on_order_created"
        assert "secret-content" not in cluster.log("inventory").read_text()

    @pytest.mark.parametrize(
        "properties",
        [
            {"headers": {"nameko.call_id_stack": 7, "x-oms-attempt": "many", "traceparent": ["x"]}},
            {"headers": {"compression": "application/x-gzip"}},
            {"content_type": "application/x-python-serialize"},
            {"content_encoding": "no-such-encoding", "headers": {"x-death": "yes"}},
        ],
    )
    def test_with_hostile_headers_harms_nobody(
        self, cluster: Cluster, operator: Operator, customer: Client, admin: Client, properties: dict[str, Any]
    ) -> None:
        """Handled or given up, and the next order goes through in the same process."""
        alive = cluster.children["orders"].process.pid

        operator.dispatch("payments", "PaymentProcessedEvent", b"{}", message_id="hostile", **properties)
        eventually(lambda: buried(operator, "hostile"), "buried")

        customer.wait_for(customer.place(admin.add_product(stock=1)), "Confirmed")
        assert cluster.runs("orders")
        assert cluster.children["orders"].process.pid == alive

    def test_that_fails_for_good_is_tried_five_times_and_delays_nobody(
        self, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """An unknown order's payments wait their growing turns while others are confirmed at once."""
        product = admin.add_product(stock=1)
        ids = [str(uuid4()) for _ in range(20)]
        for message_id in ids:
            operator.dispatch("payments", "PaymentProcessedEvent", a_payment_of_nobody(), message_id=message_id)

        customer.wait_for(customer.place(product), "Confirmed", seconds=5)

        letters = [eventually(partial(buried, operator, each), "buried") for each in ids]
        for letter in letters:
            assert letter.headers["x-oms-failures"] == 5
            assert letter.headers["x-oms-reason"].startswith("NotFound: ")
            assert letter.headers["x-oms-kind"] == "lasting"

    def test_that_must_never_happen_is_an_alarm_at_once(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """A failed payment of a confirmed order: the order stays as it is, a person is told."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed")
        until_mails(cluster, order_id, "confirmation", "receipt")
        failed = {"order_id": order_id, "user_id": customer.user_id, "payment_id": str(uuid4()), "reason": "late"}

        operator.slip("evt-payments-PaymentFailedEvent--orders.on_payment_failed", "orders", failed, "alarm")
        letter = eventually(lambda: buried(operator, "alarm"), "buried")

        assert (letter.service, letter.headers["x-oms-kind"], letter.headers["x-oms-attempt"]) == ("orders", "alarm", 1)
        assert customer.order(order_id)["status"] == "Confirmed"


class TestByHand:
    """Events dispatched by the operator, without ids."""

    def test_drives_a_saga_whose_event_was_lost(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """The same event twice counts once, and the lost one turning up later changes nothing."""
        product = admin.add_product(stock=2)
        queue = "evt-orders-OrderCreatedEvent--inventory.on_order_created"
        cluster.stop("inventory")
        order_id = customer.place(product)
        eventually(lambda: queue in operator.waiting(), "in the queue")
        operator.broker.delete("queues", operator.vhost, queue, "contents")
        cluster.start("inventory")

        (lost,) = cluster.rows("orders", "SELECT * FROM outbox WHERE order_id = %s", order_id)
        told = {"event_id", "event_type", "version", "occurred_at", "correlation_id", "causation_id"}
        by_hand = {name: value for name, value in wire.decode(lost["payload"]).items() if name not in told}
        before = operator.handled().get("inventory.on_order_created", 0)
        operator.dispatch("orders", "OrderCreatedEvent", by_hand)
        operator.dispatch("orders", "OrderCreatedEvent", dict(reversed(by_hand.items())))
        customer.wait_for(order_id, "Confirmed")
        operator.repeat("orders", lost)
        eventually(lambda: operator.handled()["inventory.on_order_created"] >= before + 3, "all three answered")
        come_to_rest(cluster, operator)

        assert movements_of(cluster, order_id) == [("reserved", 1)]
        assert charge_of(cluster, order_id) == ["charged"]
        query = "SELECT event_id FROM inbox WHERE order_id = %s AND handler = 'inventory.on_order_created'"
        assert len(cluster.rows("inventory", query, order_id)) == 2
        until_mails(cluster, order_id, "confirmation", "receipt")

    def test_that_is_dispatched_as_itself_needs_nothing_but_its_fields(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """With a time of its own it is another event; the saga still does nothing twice."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed")
        (created,) = cluster.rows(
            "orders", "SELECT payload FROM outbox WHERE order_id = %s AND event_type = 'OrderCreatedEvent'", order_id
        )
        again = {**wire.decode(created["payload"]), "event_id": None, "occurred_at": datetime.now(UTC).isoformat()}

        operator.dispatch("orders", "OrderCreatedEvent", again)
        come_to_rest(cluster, operator)

        assert movements_of(cluster, order_id) == [("reserved", 1)]
        assert charge_of(cluster, order_id) == ["charged"]


class TestReplay:
    """A dead letter that is given to its handler again, much later."""

    def test_does_what_is_missing_and_nothing_twice(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client
    ) -> None:
        """An order that inventory could not take for a while is confirmed; replayed again, nothing happens."""
        product = admin.add_product(stock=2)
        cluster.execute("inventory", "ALTER TABLE reservations RENAME TO mislaid")
        try:
            order_id = customer.place(product)
            (event,) = cluster.rows("orders", "SELECT event_id, payload FROM outbox WHERE order_id = %s", order_id)
            letter = eventually(partial(buried, operator, str(event["event_id"])), "buried")
        finally:
            cluster.execute("inventory", "ALTER TABLE mislaid RENAME TO reservations")
        assert (letter.headers["x-oms-failures"], letter.headers["x-oms-kind"]) == (5, "lasting")
        assert customer.order(order_id)["status"] == "Pending"

        queue = "evt-orders-OrderCreatedEvent--inventory.on_order_created"
        operator.slip(queue, "inventory", wire.decode(letter.body), letter.message_id)
        customer.wait_for(order_id, "Confirmed")
        before = operator.handled()["inventory.on_order_created"]
        operator.slip(queue, "inventory", wire.decode(letter.body), letter.message_id)
        eventually(lambda: operator.handled()["inventory.on_order_created"] > before, "answered")

        assert movements_of(cluster, order_id) == [("reserved", 1)]
        assert charge_of(cluster, order_id) == ["charged"]
        assert admin.stock(product) == (2, 1)
