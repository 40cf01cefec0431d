"""One instant of one order's saga: what each service has stored, what the processor has done, where every event is."""

from typing import NamedTuple

from events import CancelReason, OrderEvent, ReleaseOutcome, VoidOutcome
from services.inventory.transitions import ReservationStatus
from services.notifications.models import Channel, Kind
from services.orders import transitions as orders
from services.payments import transitions as payments

Detail = CancelReason | ReleaseOutcome | VoidOutcome | None
Mails = tuple[tuple[Kind, Channel], ...]


class Message(NamedTuple):
    """An event about the order, with the one field on which may depend what is made of it."""

    event: type[OrderEvent]
    detail: Detail = None

    def __str__(self) -> str:
        return f"{self.event.__name__} ({self.detail})" if self.detail else self.event.__name__


class Order(NamedTuple):
    """What orders has stored."""

    status: orders.OrderStatus
    reason: CancelReason | None = None
    payment: orders.PaymentStatus = orders.PaymentStatus.PENDING
    is_stock_settled: bool = False
    is_payment_settled: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether inventory and payments have both said that they hold nothing."""
        return self.is_stock_settled and self.is_payment_settled


class Payment(NamedTuple):
    """What payments has stored; status None before it has heard of the order.

    ``void_outcome`` is why there is no money to give back, where there is none.
    """

    status: payments.PaymentStatus | None = None
    is_cancel_requested: bool = False
    void_outcome: VoidOutcome = VoidOutcome.DECLINED


class Processor(NamedTuple):
    """The card processor's book, and for what it was ever asked.

    A request once made may arrive at any later time, and so may its answer: whoever carries it may have been frozen.
    """

    asked: frozenset[payments.AttemptKind] = frozenset()
    charge: type[payments.Answer] | None = None
    charges: int = 0
    refunds: int = 0


class State(NamedTuple):
    """All of it. ``mails`` is the mailbox's book.

    The last three are sets of letters, one bit each (see ``post.py``): ``owed`` must still arrive, ``known`` were
    answered and may come again, ``dead`` lie with the dead letters.
    """

    order: Order
    stock: ReservationStatus | None = None
    payment: Payment = Payment()
    processor: Processor = Processor()
    mails: Mails = ()
    owed: int = 0
    known: int = 0
    dead: int = 0
