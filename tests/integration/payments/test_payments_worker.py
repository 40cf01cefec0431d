from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from events import outcome_id
from services.payments.transitions import Charged, Refused
from tests.integration.payments.bench import LITTLE_PATIENCE_SECONDS, PaymentsBench, a_cancelled, a_reserved


class TestClaims:
    """Who asks the processor."""

    def test_are_nobody_elses_until_the_lease_runs_out(self, payments: PaymentsBench) -> None:
        """Then somebody else takes over, with the next number."""
        payments.deliver(a_reserved())

        (first,) = payments.claim()
        assert payments.claim() == []
        payments.let_leases_run_out()
        (second,) = payments.claim()

        assert (first.number, second.number) == (1, 2)
        assert first.key == second.key == str(first.order_id)

    def test_say_when_the_next_is_due(self, payments: PaymentsBench) -> None:
        """When the lease runs out, or the pause is over."""
        assert payments.service().claim_attempts(10).next_in_seconds is None
        payments.deliver(a_reserved())

        claimed = payments.service().claim_attempts(10)

        assert len(claimed.jobs) == 1
        assert claimed.next_in_seconds == pytest.approx(30, abs=2)

    def test_of_many_workers_never_overlap(self, payments: PaymentsBench) -> None:
        """Each payment is claimed once."""
        orders = [a_reserved() for _ in range(40)]
        for order in orders:
            payments.deliver(order)

        with ThreadPoolExecutor(8) as pool:
            claimed = [request for requests in pool.map(payments.claim, [7] * 8) for request in requests]

        assert sorted(request.order_id for request in claimed) == sorted(order.order_id for order in orders)


class TestCrashes:
    """What a worker leaves behind that dies."""

    def test_between_charge_and_record_the_charge_is_found_again(self, payments: PaymentsBench) -> None:
        """The same key gets the first answer: one charge, one event."""
        order = a_reserved()
        payments.deliver(order)
        (request,) = payments.claim()
        payments.service().processor.ask(request)
        assert payments.booked(order) == (["charged"], 0)

        payments.let_leases_run_out()
        payments.work()

        assert payments.outbox(order) == ["PaymentProcessedEvent"]
        assert payments.attempts(order) == [("charge", 1, None), ("charge", 2, "charged")]
        assert payments.rows("SELECT count(*) FROM processor.charges")[0][0] == 1

    def test_between_refund_and_record_the_refund_is_found_again(self, payments: PaymentsBench) -> None:
        """Money goes back once."""
        order = a_reserved()
        payments.deliver(order)
        payments.work()
        payments.deliver(a_cancelled(order))
        (request,) = payments.claim()
        payments.service().processor.ask(request)

        payments.let_leases_run_out()
        payments.work()

        assert payments.booked(order) == (["charged"], 1)
        assert payments.outbox(order) == ["PaymentProcessedEvent", "PaymentRefundedEvent"]

    def test_before_the_processor_nothing_was_charged(self, payments: PaymentsBench) -> None:
        """And the next attempt charges."""
        order = a_reserved()
        payments.deliver(order)
        payments.claim()

        payments.let_leases_run_out()
        payments.work()

        assert payments.payment(order).status == "captured"


class TestSilence:
    """A processor that does not answer."""

    def test_is_given_up_after_five_charges_and_a_promise(self, payments: PaymentsBench) -> None:
        """The promise keeps a late sixth charge from succeeding."""
        payments.answer_seconds = LITTLE_PATIENCE_SECONDS
        order = a_reserved()
        payments.tell_processor(order.order_id, "charge", "stall", times=5)
        payments.deliver(order)

        payments.work()

        assert payments.attempts(order)[-2:] == [("charge", 5, "unanswered"), ("abandon", 1, "abandoned")]
        assert payments.payment(order).reason == "timeout"
        assert payments.outbox(order) == ["PaymentFailedEvent"]
        (late,) = payments.service().processor.simulated.charge(str(order.order_id), 4_200, "EUR", "pm_ok")
        assert payments.booked(order) == (["abandoned"], 0)
        assert not isinstance(late, Charged)

    def test_that_hides_a_charge_ends_as_captured(self, payments: PaymentsBench) -> None:
        """Abandoning returns the charge that was made."""
        order = a_reserved()
        payments.tell_processor(order.order_id, "charge", "lose", times=5)
        payments.deliver(order)

        payments.work()

        assert payments.attempts(order)[-1] == ("abandon", 1, "charged")
        assert payments.payment(order).status == "captured"
        assert payments.outbox(order) == ["PaymentProcessedEvent"]

    def test_of_a_cancelled_order_ends_as_voided(self, payments: PaymentsBench) -> None:
        """With the time-out as the reason."""
        order = a_reserved()
        payments.tell_processor(order.order_id, "charge", "fail", times=5)
        payments.deliver(order)
        payments.deliver(a_cancelled(order))

        payments.work()

        assert payments.outbox(order) == ["PaymentFailedEvent", "PaymentVoidedEvent"]
        (row,) = payments.rows("SELECT event_id FROM outbox WHERE event_type = 'PaymentVoidedEvent'")
        assert row.event_id == outcome_id(order.order_id, "PaymentVoidedEvent:timeout")

    def test_does_not_end_a_refund(self, payments: PaymentsBench) -> None:
        """It is asked for until it is answered."""
        order = a_reserved()
        payments.tell_processor(f"{order.order_id}:refund", "refund", "fail", times=7)
        payments.deliver(order)
        payments.work()
        payments.deliver(a_cancelled(order))

        payments.work()

        assert payments.attempts(order)[-1] == ("refund", 8, "refunded")
        assert payments.booked(order) == (["charged"], 1)


class TestLateAnswers:
    """An answer that comes when nobody waits for it."""

    def test_a_second_charge_answer_is_no_refund(self, payments: PaymentsBench) -> None:
        """A payment in refunding waits for a refund only."""
        order = a_reserved("pm_duplicate")
        payments.deliver(order)
        (charge,) = payments.claim()
        payments.deliver(a_cancelled(order))
        payments.service().make_attempt(charge)
        assert payments.payment(order).status == "refunding"

        payments.service().make_attempt(charge)

        assert payments.payment(order).status == "refunding"
        assert payments.outbox(order) == []

    def test_a_frozen_worker_changes_nothing_that_another_finished(self, payments: PaymentsBench) -> None:
        """Its lease had run out, and its answer is the same one."""
        order = a_reserved()
        payments.deliver(order)
        (frozen,) = payments.claim()
        payments.let_leases_run_out()
        payments.work()

        payments.service().make_attempt(frozen)

        assert payments.outbox(order) == ["PaymentProcessedEvent"]
        assert payments.attempts(order) == [("charge", 1, "charged"), ("charge", 2, "charged")]

    def test_a_frozen_worker_that_gives_up_takes_no_lease_away(self, payments: PaymentsBench) -> None:
        """The one who took over still has its time."""
        order = a_reserved()
        payments.deliver(order)
        (frozen,) = payments.claim()
        payments.let_leases_run_out()
        (taken_over,) = payments.claim()
        payments.tell_processor(order.order_id, "charge", "fail")

        payments.service().make_attempt(frozen)

        assert payments.payment(order).lease_until == taken_over.lease_until


class TestRefusedRefunds:
    """A processor that will not give the money back."""

    def test_are_reported_once_and_asked_for_again_after_an_hour(self, payments: PaymentsBench) -> None:
        """The payment stays in refunding until then."""
        order = a_reserved()
        payments.deliver(order)
        payments.work()
        payments.tell_processor(f"{order.order_id}:refund", "refund", "refuse", times=2)
        payments.deliver(a_cancelled(order))

        with capture_logs() as logs:
            payments.work()
            assert payments.payment(order).status == "refunding"
            assert payments.service().claim_attempts(1).next_in_seconds == pytest.approx(3600, abs=5)
            self.let_an_hour_pass(payments)
            payments.work()
            self.let_an_hour_pass(payments)
            payments.work()

        assert [line["event"] for line in logs if line["log_level"] == "error"] == ["refund_refused"]
        assert payments.payment(order).status == "refunded"
        assert [each[2] for each in payments.attempts(order)] == ["charged", "refused", "refused", "refunded"]

    def test_are_those_of_more_than_was_taken(self, payments: PaymentsBench) -> None:
        """Whoever asks for it, and by whatever key."""
        processor = payments.service().processor.simulated
        (charged,) = processor.charge("an-order", 4_200, "EUR", "pm_ok")
        assert isinstance(charged, Charged)

        assert processor.refund("an-order:refund", charged.transaction_id, 4_201) == (Refused(),)

    def let_an_hour_pass(self, payments: PaymentsBench) -> None:
        """As if it had."""
        with payments.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE payments SET next_attempt_at = clock_timestamp()")


class TestEvidence:
    """The attempts, which nobody can change."""

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM attempts",
            "UPDATE attempts SET outcome = 'declined'",
            "UPDATE attempts SET number = 7",
            "TRUNCATE attempts",
        ],
    )
    def test_stay_as_they_were(self, payments: PaymentsBench, statement: str) -> None:
        """The database refuses."""
        payments.deliver(a_reserved())
        payments.work()

        with pytest.raises(IntegrityError, match="append-only"), payments.engine.begin() as connection:
            connection.exec_driver_sql(statement)
