import pytest

from events import InventoryReservedEvent, OrderEvent, outcome_id
from services.chassis import wire
from tests.integration.payments.bench import LITTLE_PATIENCE_SECONDS, PaymentsBench, a_cancelled, a_reserved


def ids(payments: PaymentsBench, order: OrderEvent, kind: str) -> list[object]:
    """The ids of the order's events of one type."""
    query = "SELECT event_id FROM outbox WHERE event_type = :kind AND order_id = :id ORDER BY id"
    return [row.event_id for row in payments.rows(query, kind=kind, id=str(order.order_id))]


class TestInventoryReserved:
    """What a reservation asks of payments."""

    def test_only_writes_it_down_and_wakes_the_worker(self, payments: PaymentsBench) -> None:
        """The processor is not asked in the handler."""
        order = a_reserved()

        payments.deliver(order)

        assert payments.payment(order).status == "processing"
        assert payments.worker.woken == 1
        assert payments.outbox(order) == []
        assert payments.booked(order) == ([], 0)

    def test_is_charged_once_when_delivered_twice(self, payments: PaymentsBench) -> None:
        """Neither the same event nor a new one about the same order charges again."""
        order = a_reserved()

        for event in (order, order, a_reserved(order_id=order.order_id, user_id=order.user_id)):
            payments.deliver(event)
            payments.work()

        assert payments.payment(order).status == "captured"
        assert payments.outbox(order) == ["PaymentProcessedEvent"]
        assert payments.attempts(order) == [("charge", 1, "charged")]

    def test_does_nothing_after_the_cancellation(self, payments: PaymentsBench) -> None:
        """The voided payment stands before the reservation."""
        order = a_reserved()

        payments.deliver(a_cancelled(order))
        payments.deliver(order)

        assert payments.work() == 0
        assert payments.payment(order).status == "voided"
        assert payments.outbox(order) == ["PaymentVoidedEvent"]


class TestOrderCancelled:
    """What a cancellation does to the money."""

    def test_gives_back_what_was_captured_once(self, payments: PaymentsBench) -> None:
        """Told again, it is the same event again and refunds nothing more."""
        order = a_reserved()
        payments.deliver(order)
        payments.work()
        cancelled = a_cancelled(order)

        for event in (cancelled, cancelled, a_cancelled(order)):
            payments.deliver(event)
            payments.work()

        assert payments.payment(order).status == "refunded"
        assert payments.booked(order) == (["charged"], 1)
        refunded = outcome_id(order.order_id, "PaymentRefundedEvent:refunded")
        assert ids(payments, order, "PaymentRefundedEvent") == [refunded, refunded]

    def test_during_the_charge_turns_it_into_a_refund(self, payments: PaymentsBench) -> None:
        """PaymentProcessed is never told then."""
        order = a_reserved()
        payments.deliver(order)
        (request,) = payments.claim()

        payments.deliver(a_cancelled(order))
        payments.deliver(a_cancelled(order))
        payments.service().make_attempt(request)
        payments.work()

        assert payments.payment(order).status == "refunded"
        assert payments.outbox(order) == ["PaymentRefundedEvent"]
        assert payments.booked(order) == (["charged"], 1)

    def test_during_a_charge_that_is_declined_voids_it(self, payments: PaymentsBench) -> None:
        """And says both."""
        order = a_reserved("pm_declined")
        payments.deliver(order)
        payments.deliver(a_cancelled(order))

        payments.work()

        assert payments.outbox(order) == ["PaymentFailedEvent", "PaymentVoidedEvent"]
        declined = outcome_id(order.order_id, "PaymentVoidedEvent:declined")
        assert ids(payments, order, "PaymentVoidedEvent") == [declined]

    def test_tells_the_same_outcome_again_of_an_order_that_was_never_charged(self, payments: PaymentsBench) -> None:
        """Of one that failed as of one that never came."""
        failed, unknown = a_reserved("pm_declined"), a_reserved()
        payments.deliver(failed)
        payments.work()

        for order in (failed, failed, unknown, unknown):
            payments.deliver(a_cancelled(order))

        for order, outcome in ((failed, "declined"), (unknown, "never_charged")):
            event_id = outcome_id(order.order_id, f"PaymentVoidedEvent:{outcome}")
            assert ids(payments, order, "PaymentVoidedEvent") == [event_id, event_id]


class TestEvents:
    """What the worker's events carry."""

    def test_name_the_request_and_the_event_that_caused_them(self, payments: PaymentsBench) -> None:
        """A charge is caused by the reservation, its refund by the cancellation."""
        order = a_reserved()
        cancelled = a_cancelled(order)
        payments.deliver(order)
        payments.work()
        payments.deliver(cancelled)
        payments.work()

        rows = payments.rows("SELECT payload FROM outbox ORDER BY id")
        processed, refunded = (wire.decode(row.payload) for row in rows)

        assert (processed["correlation_id"], processed["causation_id"]) == ("the-request", str(order.event_id))
        assert (refunded["correlation_id"], refunded["causation_id"]) == ("the-request", str(cancelled.event_id))
        assert (processed["amount_cents"], refunded["amount_cents"]) == (4_200, 4_200)


class TestMethods:
    """What each test card comes to."""

    @pytest.mark.parametrize(
        ("method", "status", "reason", "attempts"),
        [
            ("pm_ok", "captured", None, ["charged"]),
            ("pm_slow", "captured", None, ["charged"]),
            ("pm_duplicate", "captured", None, ["charged"]),
            ("pm_error_then_ok", "captured", None, ["unanswered", "charged"]),
            ("pm_declined", "failed", "insufficient_funds", ["declined"]),
            ("pm_fraud", "failed", "fraud", ["declined"]),
            ("pm_none_such", "failed", "unknown_payment_method", ["declined"]),
            ("pm_timeout", "failed", "timeout", ["unanswered"] * 5 + ["abandoned"]),
        ],
    )
    def test_ends_where_it_should(
        self, payments: PaymentsBench, method: str, status: str, reason: str | None, attempts: list[str]
    ) -> None:
        """After these attempts, with one event."""
        if method == "pm_timeout":
            payments.answer_seconds = LITTLE_PATIENCE_SECONDS
        order: InventoryReservedEvent = a_reserved(method)
        payments.deliver(order)

        payments.work()

        payment = payments.payment(order)
        assert (payment.status, payment.reason) == (status, reason)
        assert [outcome for _, _, outcome in payments.attempts(order)] == attempts
        told = "PaymentProcessedEvent" if status == "captured" else "PaymentFailedEvent"
        assert payments.outbox(order) == [told]
