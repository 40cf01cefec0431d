"""What may become of an order: the table of saga.md as data, without a database or a framework.

The methods of ``models.Order``, the conditional updates of ``repository.py``, the tests and the docs read this one
table. It stands beside ``models.py`` and not in it so that a page or a model checker can read it with nothing else.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from events import VoidOutcome


class OrderStatus(StrEnum):
    """Where an order stands."""

    PENDING = "Pending"
    CONFIRMED = "Confirmed"
    SHIPPED = "Shipped"
    DELIVERED = "Delivered"
    CANCELLED = "Cancelled"


class PaymentStatus(StrEnum):
    """What orders knows of an order's money."""

    PENDING = "Pending"
    COMPLETED = "Completed"
    FAILED = "Failed"
    VOIDED = "Voided"
    REFUNDED = "Refunded"


class Trigger(StrEnum):
    """What may move an order: an event, a person or the clock."""

    PAYMENT_PROCESSED = "PaymentProcessedEvent"
    PAYMENT_FAILED = "PaymentFailedEvent"
    RESERVATION_FAILED = "InventoryReservationFailedEvent"
    CANCEL = "cancel"
    DEADLINE = "deadline"
    SHIP = "ship"
    DELIVER = "deliver"
    INVENTORY_RELEASED = "InventoryReleasedEvent"
    PAYMENT_VOIDED = "PaymentVoidedEvent"
    PAYMENT_REFUNDED = "PaymentRefundedEvent"


class Cell(StrEnum):
    """What a trigger does that moves no status."""

    NOTHING = "-"
    REPEAT = "200, as it is"
    REFUSED = "409"
    ALARM = "alarm"
    SETTLED = "settle"


def _row(*cells: OrderStatus | Cell) -> Mapping[OrderStatus, OrderStatus | Cell]:
    return dict(zip(OrderStatus, cells, strict=True))


_SETTLING: Final = _row(Cell.ALARM, Cell.ALARM, Cell.ALARM, Cell.ALARM, Cell.SETTLED)
_FAILING: Final = _row(OrderStatus.CANCELLED, Cell.ALARM, Cell.ALARM, Cell.ALARM, Cell.NOTHING)

TRANSITIONS: Final[Mapping[Trigger, Mapping[OrderStatus, OrderStatus | Cell]]] = {
    # in:                          Pending  Confirmed  Shipped  Delivered  Cancelled
    Trigger.PAYMENT_PROCESSED: _row(OrderStatus.CONFIRMED, *[Cell.NOTHING] * 4),
    Trigger.PAYMENT_FAILED: _FAILING,
    Trigger.RESERVATION_FAILED: _FAILING,
    Trigger.CANCEL: _row(OrderStatus.CANCELLED, OrderStatus.CANCELLED, Cell.REFUSED, Cell.REFUSED, Cell.REPEAT),
    Trigger.DEADLINE: _row(OrderStatus.CANCELLED, *[Cell.NOTHING] * 4),
    Trigger.SHIP: _row(Cell.REFUSED, OrderStatus.SHIPPED, Cell.REPEAT, Cell.REFUSED, Cell.REFUSED),
    Trigger.DELIVER: _row(Cell.REFUSED, Cell.REFUSED, OrderStatus.DELIVERED, Cell.REPEAT, Cell.REFUSED),
    Trigger.INVENTORY_RELEASED: _SETTLING,
    Trigger.PAYMENT_VOIDED: _SETTLING,
    Trigger.PAYMENT_REFUNDED: _SETTLING,
}
"""The order's table of saga.md, cell by cell. A status in a cell is the one the order moves to, emitting its event."""

PAYMENT_MOVES: Final[Mapping[PaymentStatus, frozenset[PaymentStatus]]] = {
    PaymentStatus.PENDING: frozenset(PaymentStatus) - {PaymentStatus.PENDING},
    PaymentStatus.COMPLETED: frozenset({PaymentStatus.REFUNDED}),
    PaymentStatus.FAILED: frozenset(),
    PaymentStatus.VOIDED: frozenset(),
    PaymentStatus.REFUNDED: frozenset(),
}
"""What a payment status may become; whatever else is reported changes nothing."""

VOIDED_AS: Final[Mapping[VoidOutcome, PaymentStatus]] = {
    VoidOutcome.NEVER_CHARGED: PaymentStatus.VOIDED,
    VoidOutcome.DECLINED: PaymentStatus.FAILED,
    VoidOutcome.TIMEOUT: PaymentStatus.FAILED,
}

ACTIONS: Final = (Trigger.CANCEL, Trigger.SHIP, Trigger.DELIVER)
STAFF_ACTIONS: Final = frozenset({Trigger.SHIP, Trigger.DELIVER})


def sources(trigger: Trigger) -> list[OrderStatus]:
    """The statuses in which the trigger changes an order: what a conditional update expects."""
    cells = TRANSITIONS[trigger].items()
    return [status for status, cell in cells if isinstance(cell, OrderStatus) or cell is Cell.SETTLED]


def target(trigger: Trigger) -> OrderStatus:
    """The status the trigger is for, wherever it comes from."""
    return next(cell for cell in TRANSITIONS[trigger].values() if isinstance(cell, OrderStatus))


def next_statuses(status: OrderStatus) -> list[OrderStatus]:
    """Every status that an order in this one may still move to in one step."""
    reachable = {row[status] for row in TRANSITIONS.values()}
    return [each for each in OrderStatus if each in reachable]


def may_become(payment_status: PaymentStatus) -> list[PaymentStatus]:
    """The payment statuses that this one may follow."""
    return [before for before, after in PAYMENT_MOVES.items() if payment_status in after]


def allowed_actions(status: OrderStatus, *, is_staff: bool) -> list[Trigger]:
    """What somebody who may see an order in this status may do with it now."""
    possible = [action for action in ACTIONS if isinstance(TRANSITIONS[action][status], OrderStatus)]
    return [action for action in possible if is_staff or action not in STAFF_ACTIONS]
