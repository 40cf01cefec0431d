"""What may become of a payment: the table of saga.md as data, without a database or a framework.

Two events and the processor's answers move a payment, as :data:`EVENTS` and :data:`ANSWERS` say and nothing else. The
methods of ``models.Payment``, the conditional updates of ``repository.py``, the tests and the docs read this one table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from events import (
    InventoryReservedEvent,
    OrderCancelledEvent,
    OrderEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
)

TIMEOUT: Final = "timeout"
"""Why a payment failed when the processor never answered and has promised not to charge any more."""


class PaymentStatus(StrEnum):
    """Where an order's money is."""

    PROCESSING = "processing"
    CAPTURED = "captured"
    FAILED = "failed"
    VOIDED = "voided"
    REFUNDING = "refunding"
    REFUNDED = "refunded"


class AttemptKind(StrEnum):
    """What the processor was asked for."""

    CHARGE = "charge"
    ABANDON = "abandon"
    REFUND = "refund"


@dataclass(frozen=True)
class Charged:
    """The processor took the money."""

    transaction_id: str


@dataclass(frozen=True)
class Declined:
    """The processor refused the charge, for good."""

    reason: str


@dataclass(frozen=True)
class Abandoned:
    """The processor has made no charge and promises never to make it."""

    reason: str = TIMEOUT


@dataclass(frozen=True)
class Refunded:
    """The processor gave the money back."""

    refund_id: str


@dataclass(frozen=True)
class Refused:
    """The processor will not give the money back now; a person may have to look, and later it may do it."""


@dataclass(frozen=True)
class Unanswered:
    """The processor did not answer in time, or could not be reached: nobody knows what it did."""


Answer = Charged | Declined | Abandoned | Refunded | Refused | Unanswered


@dataclass(frozen=True)
class Cell:
    """What moves a payment where (nowhere when None), and what is told of it.

    ``if_cancelled`` is the cell for a payment whose order was cancelled meanwhile, when that makes a difference.
    """

    to: PaymentStatus | None = None
    tells: tuple[type[OrderEvent], ...] = ()
    requests_cancel: bool = False
    if_cancelled: "Cell | None" = None

    def cell_for(self, *, cancelled: bool) -> "Cell":
        """What counts: the cell itself, or the one for a cancelled order."""
        return self.if_cancelled if cancelled and self.if_cancelled else self


_STAYS: Final = Cell()

EVENTS: Final[Mapping[type[OrderEvent], Mapping[PaymentStatus | None, Cell]]] = {
    InventoryReservedEvent: {
        None: Cell(to=PaymentStatus.PROCESSING),
        PaymentStatus.PROCESSING: _STAYS,
        PaymentStatus.CAPTURED: _STAYS,
        PaymentStatus.REFUNDING: _STAYS,
        PaymentStatus.FAILED: _STAYS,
        PaymentStatus.VOIDED: _STAYS,
        PaymentStatus.REFUNDED: _STAYS,
    },
    OrderCancelledEvent: {
        None: Cell(to=PaymentStatus.VOIDED, tells=(PaymentVoidedEvent,)),
        PaymentStatus.PROCESSING: Cell(requests_cancel=True),
        PaymentStatus.CAPTURED: Cell(to=PaymentStatus.REFUNDING),
        PaymentStatus.REFUNDING: _STAYS,
        PaymentStatus.FAILED: Cell(tells=(PaymentVoidedEvent,)),
        PaymentStatus.VOIDED: Cell(tells=(PaymentVoidedEvent,)),
        PaymentStatus.REFUNDED: Cell(tells=(PaymentRefundedEvent,)),
    },
}
"""The events' columns of the payment's table of the saga; None is an order that payments has not heard of."""

_CHARGED: Final = Cell(
    to=PaymentStatus.CAPTURED,
    tells=(PaymentProcessedEvent,),
    if_cancelled=Cell(to=PaymentStatus.REFUNDING),
)
_FAILED: Final = Cell(
    to=PaymentStatus.FAILED,
    tells=(PaymentFailedEvent,),
    if_cancelled=Cell(to=PaymentStatus.FAILED, tells=(PaymentFailedEvent, PaymentVoidedEvent)),
)
_CHARGE_ANSWERS: Final = {Charged: _CHARGED, Declined: _FAILED, Abandoned: _FAILED, Unanswered: _STAYS}
_REFUND_ANSWERS: Final = {
    Refunded: Cell(to=PaymentStatus.REFUNDED, tells=(PaymentRefundedEvent,)),
    Refused: _STAYS,
    Unanswered: _STAYS,
}

ANSWERS: Final[Mapping[AttemptKind, Mapping[type[Answer], Cell]]] = {
    AttemptKind.CHARGE: _CHARGE_ANSWERS,
    AttemptKind.ABANDON: _CHARGE_ANSWERS,
    AttemptKind.REFUND: _REFUND_ANSWERS,
}
"""What an answer to an attempt does to a payment that waits for it; a kind that is missing can be no answer to it."""

WAITS: Final[Mapping[AttemptKind, PaymentStatus]] = {
    AttemptKind.CHARGE: PaymentStatus.PROCESSING,
    AttemptKind.ABANDON: PaymentStatus.PROCESSING,
    AttemptKind.REFUND: PaymentStatus.REFUNDING,
}
"""The status in which a payment waits for an answer to an attempt of that kind; in any other it changes nothing."""
