import pytest

from events import OrderCancelledEvent, OrderCreatedEvent, OrderShippedEvent
from services.chassis.errors import Alarm
from services.inventory.transitions import TRANSITIONS, Cell, ReservationStatus, cell, leading_to
from tests.integration.inventory.bench import a_cancelled, a_shipped, an_order

TABLE = """
    in         | created           | cancelled                  | shipped
    none       | reserved,rejected | tombstone:nothing_reserved | alarm
    reserved   | -                 | released:released          | shipped
    rejected   | -                 | -:nothing_reserved         | alarm
    released   | -                 | -:released                 | alarm
    tombstone  | -                 | -:nothing_reserved         | alarm
    shipped    | -                 | alarm                      | -
"""
"""The reservation's table of saga.md, spelled a second time: status it leads to, then the outcome it tells."""

EVENTS = {"created": OrderCreatedEvent, "cancelled": OrderCancelledEvent, "shipped": OrderShippedEvent}


def spelled(found: Cell) -> str:
    """A cell the way the table writes it."""
    if found.alarm:
        return "alarm"
    where = ",".join(found.to) or "-"
    return f"{where}:{found.released}" if found.released else where


def cells() -> list[tuple[str, str, str]]:
    """Every cell of the table: status, event, what happens."""
    head, *rows = [[word.strip() for word in line.split("|")] for line in TABLE.strip().splitlines()]
    return [(row[0], name, what) for row in rows for name, what in zip(head[1:], row[1:], strict=True)]


class TestTransitions:
    """The table as data."""

    @pytest.mark.parametrize(("status", "event", "what"), cells())
    def test_says_what_the_saga_says(self, status: str, event: str, what: str) -> None:
        """Each cell is as the page has it."""
        key = None if status == "none" else ReservationStatus(status)

        assert spelled(TRANSITIONS[EVENTS[event]][key]) == what

    def test_has_no_cell_the_saga_has_not(self) -> None:
        """Every status stands in every column, and nothing else does."""
        assert set(TRANSITIONS) == set(EVENTS.values())
        assert all(set(column) == {None, *ReservationStatus} for column in TRANSITIONS.values())

    @pytest.mark.parametrize("event", [a_cancelled(an_order()), a_shipped(an_order())])
    def test_raises_an_alarm_where_it_says_so(self, event: OrderCancelledEvent | OrderShippedEvent) -> None:
        """And nowhere else."""
        for status in [None, *ReservationStatus]:
            if TRANSITIONS[type(event)][status].alarm:
                with pytest.raises(Alarm):
                    cell(event, status)
            else:
                assert cell(event, status) is TRANSITIONS[type(event)][status]

    def test_names_the_statuses_an_update_may_expect(self) -> None:
        """Only what is reserved can be released or shipped."""
        assert leading_to(OrderCancelledEvent, ReservationStatus.RELEASED) == ["reserved"]
        assert leading_to(OrderShippedEvent, ReservationStatus.SHIPPED) == ["reserved"]
