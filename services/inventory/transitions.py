"""What may become of a reservation: the table of saga.md as data, without a database or a framework.

The conditional updates of ``repository.py``, the tests and the docs read this one table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from events import OrderCancelledEvent, OrderCreatedEvent, OrderEvent, OrderShippedEvent, ReleaseOutcome
from services.chassis.errors import Alarm


class ReservationStatus(StrEnum):
    """Where an order's stock is. A tombstone is the reservation of an order that was cancelled before it was made."""

    RESERVED = "reserved"
    SHIPPED = "shipped"
    RELEASED = "released"
    REJECTED = "rejected"
    TOMBSTONE = "tombstone"


@dataclass(frozen=True)
class Cell:
    """What an event does to a reservation: where it may lead (nowhere when empty), and what is told to the orders."""

    to: tuple[ReservationStatus, ...] = ()
    released: ReleaseOutcome | None = None
    alarm: bool = False


_STAYS: Final = Cell()
_ALARM: Final = Cell(alarm=True)
_NOTHING_RESERVED: Final = Cell(released=ReleaseOutcome.NOTHING_RESERVED)

TRANSITIONS: Final[Mapping[type[OrderEvent], Mapping[ReservationStatus | None, Cell]]] = {
    OrderCreatedEvent: {
        None: Cell(to=(ReservationStatus.RESERVED, ReservationStatus.REJECTED)),
        ReservationStatus.RESERVED: _STAYS,
        ReservationStatus.REJECTED: _STAYS,
        ReservationStatus.RELEASED: _STAYS,
        ReservationStatus.TOMBSTONE: _STAYS,
        ReservationStatus.SHIPPED: _STAYS,
    },
    OrderCancelledEvent: {
        None: Cell(to=(ReservationStatus.TOMBSTONE,), released=ReleaseOutcome.NOTHING_RESERVED),
        ReservationStatus.RESERVED: Cell(to=(ReservationStatus.RELEASED,), released=ReleaseOutcome.RELEASED),
        ReservationStatus.REJECTED: _NOTHING_RESERVED,
        ReservationStatus.RELEASED: Cell(released=ReleaseOutcome.RELEASED),
        ReservationStatus.TOMBSTONE: _NOTHING_RESERVED,
        ReservationStatus.SHIPPED: _ALARM,
    },
    OrderShippedEvent: {
        None: _ALARM,
        ReservationStatus.RESERVED: Cell(to=(ReservationStatus.SHIPPED,)),
        ReservationStatus.REJECTED: _ALARM,
        ReservationStatus.RELEASED: _ALARM,
        ReservationStatus.TOMBSTONE: _ALARM,
        ReservationStatus.SHIPPED: _STAYS,
    },
}
"""The reservation's table of the saga; None is an order that inventory has not heard of."""


def cell(event: OrderEvent, status: ReservationStatus | None) -> Cell:
    """What the event does to a reservation in this status. Raises Alarm where that must never happen."""
    found = TRANSITIONS[type(event)][status]
    if found.alarm:
        raise Alarm(f"{event.event_type} for order {event.order_id} whose stock is {status or 'unknown'}")
    return found


def leading_to(event: type[OrderEvent], target: ReservationStatus) -> list[ReservationStatus]:
    """The statuses that the event turns into ``target``, for the condition of an update."""
    return [status for status, each in TRANSITIONS[event].items() if status is not None and target in each.to]
