from typing import get_args

import pytest

from events import InventoryReservedEvent, OrderCancelledEvent
from services.payments.transitions import ANSWERS, EVENTS, WAITS, Answer, AttemptKind, Cell, PaymentStatus

ON_EVENTS = """
    in         | reserved   | cancelled
    none       | processing | voided PaymentVoidedEvent
    processing | -          | cancel_requested
    captured   | -          | refunding
    refunding  | -          | -
    failed     | -          | - PaymentVoidedEvent
    voided     | -          | - PaymentVoidedEvent
    refunded   | -          | - PaymentRefundedEvent
"""
"""The events' columns of the payment's table of saga.md, spelled a second time."""

ON_ANSWERS = """
    answer     | charge                         | abandon                        | refund
    Charged    | captured PaymentProcessedEvent | captured PaymentProcessedEvent | impossible
    Declined   | failed PaymentFailedEvent      | failed PaymentFailedEvent      | impossible
    Abandoned  | failed PaymentFailedEvent      | failed PaymentFailedEvent      | impossible
    Refunded   | impossible                     | impossible                     | refunded PaymentRefundedEvent
    Refused    | impossible                     | impossible                     | -
    Unanswered | -                              | -                              | -
"""
"""What an answer does to a payment that waits for it."""

WHEN_CANCELLED = {
    "Charged": "refunding",
    "Declined": "failed PaymentFailedEvent PaymentVoidedEvent",
    "Abandoned": "failed PaymentFailedEvent PaymentVoidedEvent",
    "Refunded": "refunded PaymentRefundedEvent",
    "Refused": "-",
    "Unanswered": "-",
}
"""The same when the cancellation was requested while the processor was asked."""

TRIGGERS = {"reserved": InventoryReservedEvent, "cancelled": OrderCancelledEvent}
KINDS = {kind.__name__: kind for kind in get_args(Answer)}


def spelled(found: Cell | None) -> str:
    """A cell the way the tables write it."""
    if found is None:
        return "impossible"
    where = "cancel_requested" if found.requests_cancel else found.to or "-"
    return " ".join([where, *(event.__name__ for event in found.tells)])


def cells(table: str) -> list[tuple[str, str, str]]:
    """Every cell of a table: row, column, what happens."""
    head, *rows = [[word.strip() for word in line.split("|")] for line in table.strip().splitlines()]
    return [(row[0], name, what) for row in rows for name, what in zip(head[1:], row[1:], strict=True)]


class TestEvents:
    """The events' columns as data."""

    @pytest.mark.parametrize(("status", "event", "what"), cells(ON_EVENTS))
    def test_say_what_the_saga_says(self, status: str, event: str, what: str) -> None:
        """Each cell is as the page has it."""
        key = None if status == "none" else PaymentStatus(status)

        assert spelled(EVENTS[TRIGGERS[event]][key]) == what

    def test_have_no_cell_the_saga_has_not(self) -> None:
        """Every status stands in every column, and nothing else does."""
        assert set(EVENTS) == set(TRIGGERS.values())
        assert all(set(column) == {None, *PaymentStatus} for column in EVENTS.values())


class TestAnswers:
    """The answers' columns as data."""

    @pytest.mark.parametrize(("answer", "kind", "what"), cells(ON_ANSWERS))
    def test_say_what_the_saga_says(self, answer: str, kind: str, what: str) -> None:
        """Each cell is as the page has it."""
        assert spelled(ANSWERS[AttemptKind(kind)].get(KINDS[answer])) == what

    @pytest.mark.parametrize(("answer", "what"), WHEN_CANCELLED.items())
    def test_say_so_for_a_cancelled_order_too(self, answer: str, what: str) -> None:
        """Whatever the attempt was, the money ends where it belongs."""
        found = [column[KINDS[answer]] for column in ANSWERS.values() if KINDS[answer] in column]

        assert found
        assert {spelled(each.cell_for(cancelled=True)) for each in found} == {what}

    def test_move_only_a_payment_that_waits_for_them(self) -> None:
        """A charge is waited for in processing, a refund in refunding."""
        assert WAITS == {"charge": "processing", "abandon": "processing", "refund": "refunding"}
