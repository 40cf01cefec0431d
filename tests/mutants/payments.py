"""Mistakes in payments: money taken twice, kept, or given back that was not taken."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

CLIENTS: Final = "services/payments/clients.py"
MODELS: Final = "services/payments/models.py"
REPOSITORY: Final = "services/payments/repository.py"

SAGA: Final = "tests/integration/payments/test_payments_saga.py"
WORKER: Final = "tests/integration/payments/test_payments_worker.py"

AGAIN: Final = ' + (f":{self.number}" if self.number > 1 else "")'

MUTANTS: Final = (
    Mutant(
        name="no-tombstone-in-payments",
        mistake="A cancellation of an order that payments does not know leaves nothing behind.",
        cost="The reservation that comes after it is charged, and nobody gives that back.",
        killer=f"{SAGA}::TestInventoryReserved::test_does_nothing_after_the_cancellation",
        edits=(
            Edit.drop(REPOSITORY, '        self._add(event, {"cancel_requested": True}, trace, at)\n'),
            Edit(
                REPOSITORY,
                "        return self.session.scalars(query).one()\n",
                "        found = self.session.scalars(query).one_or_none()\n"
                "        return found or Payment(\n"
                "            order_id=event.order_id, user_id=event.user_id, status=PaymentStatus.VOIDED\n"
                "        )\n",
            ),
        ),
    ),
    Mutant(
        name="no-cancel-requested",
        mistake="A cancellation that comes during the charge is not remembered.",
        cost="The money of a cancelled order is kept until a reminder brings the cancellation again.",
        killer=f"{SAGA}::TestOrderCancelled::test_during_the_charge_turns_it_into_a_refund",
        edits=(Edit.drop(MODELS, "            self.cancel_requested = True\n"),),
    ),
    Mutant(
        name="charge-not-idempotent",
        mistake="Each further attempt to charge has a key of its own.",
        cost="An attempt whose answer was lost is paid by the customer once more.",
        killer=f"{WORKER}::TestCrashes::test_between_charge_and_record_the_charge_is_found_again",
        edits=(Edit(MODELS, "else str(self.order_id)\n", f"else str(self.order_id){AGAIN}\n"),),
    ),
    Mutant(
        name="refund-not-idempotent",
        mistake="Each further attempt to refund has a key of its own.",
        cost="A refund whose answer was lost is made twice, or refused for ever.",
        killer=f"{WORKER}::TestCrashes::test_between_refund_and_record_the_refund_is_found_again",
        edits=(Edit(MODELS, 'f"{self.order_id}:refund"', f'f"{{self.order_id}}:refund"{AGAIN}'),),
    ),
    Mutant(
        name="refund-beyond-the-charge",
        mistake="A refund may be larger than its charge.",
        cost="One wrong amount, and the shop pays its customers.",
        killer=f"{WORKER}::TestRefusedRefunds::test_are_those_of_more_than_was_taken",
        edits=(Edit.drop(CLIENTS, " AND amount_cents >= :amount_cents"),),
    ),
    Mutant(
        name="charge-answer-taken-for-the-refund",
        mistake="Any good answer of the processor ends a payment that is being refunded.",
        cost="A charge that is answered twice counts as given back, and the money is kept.",
        killer=f"{WORKER}::TestLateAnswers::test_a_second_charge_answer_is_no_refund",
        edits=(
            Edit(
                REPOSITORY,
                "        status = case((Payment.cancel_requested, found.cell_for(cancelled=True).to), else_=found.to)\n"
                "        waiting = update(Payment).where("
                "Payment.id == request.payment_id, Payment.status == WAITS[request.kind])\n"
                "        moved = waiting.values(\n"
                "            **asdict(answer), status=status,",
                "        refunding = Payment.status == PaymentStatus.REFUNDING\n"
                "        status = case(\n"
                "            (refunding, PaymentStatus.REFUNDED),\n"
                "            (Payment.cancel_requested, found.cell_for(cancelled=True).to),\n"
                "            else_=found.to,\n"
                "        )\n"
                "        waiting = update(Payment).where(Payment.id == request.payment_id, Payment.status.in_(_OPEN))\n"
                "        receipt = case((refunding, Payment.transaction_id))\n"
                "        moved = waiting.values(\n"
                '            **{"refund_id": receipt, **asdict(answer)}, status=status,',
            ),
        ),
    ),
    Mutant(
        name="lease-not-checked-on-record",
        mistake="Whoever gives an attempt up frees the payment, also when somebody else has taken it over.",
        cost="Two workers ask the processor for the same thing at once.",
        killer=f"{WORKER}::TestLateAnswers::test_a_frozen_worker_that_gives_up_takes_no_lease_away",
        edits=(Edit.drop(REPOSITORY, ".where(Payment.lease_until == request.lease_until)"),),
    ),
    Mutant(
        name="claim-without-lease",
        mistake="A worker takes up what another is busy with.",
        cost="Every instance asks the processor for every payment.",
        killer=f"{WORKER}::TestClaims::test_are_nobody_elses_until_the_lease_runs_out",
        edits=(Edit.drop(REPOSITORY, "          AND (lease_until IS NULL OR lease_until <= clock_timestamp())\n"),),
    ),
)
