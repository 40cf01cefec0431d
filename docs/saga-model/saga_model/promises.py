"""What must hold at every instant, at every step, and once an order has come to rest."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Final

from events import CancelReason
from saga_model.state import State
from services.inventory.transitions import ReservationStatus
from services.notifications.models import Channel, Kind
from services.orders.transitions import OrderStatus
from services.orders.transitions import PaymentStatus as OrderPayment
from services.payments.transitions import PaymentStatus

LIVE: Final = frozenset({OrderStatus.CONFIRMED, OrderStatus.SHIPPED, OrderStatus.DELIVERED})
SENT: Final = frozenset({OrderStatus.SHIPPED, OrderStatus.DELIVERED})
NOTHING_HELD: Final = frozenset({ReservationStatus.RELEASED, ReservationStatus.REJECTED, ReservationStatus.TOMBSTONE})
NOTHING_TAKEN: Final = frozenset({PaymentStatus.FAILED, PaymentStatus.VOIDED})
GIVEN_BACK: Final = frozenset({PaymentStatus.REFUNDING, PaymentStatus.REFUNDED})
CLOSED_AS: Final[Mapping[PaymentStatus | None, OrderPayment]] = {
    PaymentStatus.VOIDED: OrderPayment.VOIDED,
    PaymentStatus.FAILED: OrderPayment.FAILED,
    PaymentStatus.REFUNDED: OrderPayment.REFUNDED,
}
"""The statuses of a payment that is over, and what orders calls each."""

Status = OrderStatus | ReservationStatus | PaymentStatus | None
Ranks = Mapping[Status, int]

TERMINAL: Final = 9
ORDER_RANKS: Final[Ranks] = {
    **dict.fromkeys(OrderStatus, TERMINAL),
    OrderStatus.PENDING: 0,
    OrderStatus.CONFIRMED: 1,
    OrderStatus.SHIPPED: 2,
}
STOCK_RANKS: Final[Ranks] = {**dict.fromkeys(ReservationStatus, TERMINAL), None: 0, ReservationStatus.RESERVED: 1}
PAYMENT_RANKS: Final[Ranks] = {
    **dict.fromkeys(PaymentStatus, TERMINAL),
    None: 0,
    PaymentStatus.PROCESSING: 1,
    PaymentStatus.CAPTURED: 2,
    PaymentStatus.REFUNDING: 3,
}
"""How far each status is on its way; what has the same rank does not lead to each other."""


def live_is_paid(state: State) -> bool:
    """Whether an order that was not given up has its money taken and kept, and orders knows it."""
    known = (state.order.payment, state.payment.status)
    return state.order.status not in LIVE or known == (OrderPayment.COMPLETED, PaymentStatus.CAPTURED)


def live_has_stock(state: State) -> bool:
    """Whether an order that was not given up has its stock set aside, or sent if it was sent itself."""
    if state.stock is ReservationStatus.SHIPPED:
        return state.order.status in SENT
    return state.order.status not in LIVE or state.stock is ReservationStatus.RESERVED


def settled_is_true(state: State) -> bool:
    """Whether what orders believes to be given back is."""
    order, processor = state.order, state.processor
    has_no_money = state.payment.status in CLOSED_AS and processor.charges == processor.refunds
    return (state.stock in NOTHING_HELD or not order.is_stock_settled) and (
        has_no_money or not order.is_payment_settled
    )


def money_is_as_noted(state: State) -> bool:
    """Whether the processor has done what payments has noted."""
    status, done = state.payment.status, (state.processor.charges, state.processor.refunds)
    if status in NOTHING_TAKEN:
        return done == (0, 0)
    if status is PaymentStatus.REFUNDED:
        return done == (1, 1)
    return status is not PaymentStatus.CAPTURED or done == (1, 0)


def closing_is_true(state: State) -> bool:
    """Whether nobody is told that an order is over which is not given up."""
    return state.order.status not in LIVE or all(kind is not Kind.CLOSING for kind, _ in state.mails)


ALWAYS: Final[Mapping[str, Callable[[State], bool]]] = {
    "an order is charged at most once": lambda state: state.processor.charges <= 1,
    "an order is refunded at most what it was charged": lambda state: (
        state.processor.refunds <= state.processor.charges
    ),
    "only a cancelled order's money goes back": lambda state: (
        state.payment.status not in GIVEN_BACK or state.order.status is OrderStatus.CANCELLED
    ),
    "a live order is paid": live_is_paid,
    "a live order has its stock": live_has_stock,
    "what is settled was given back": settled_is_true,
    "payments knows what the processor did": money_is_as_noted,
    "no message goes out twice": lambda state: len(set(state.mails)) == len(state.mails),
    "no live order is told that it is over": closing_is_true,
}
"""At every instant."""


def moves_on(before: State, after: State) -> bool:
    """Whether each status stayed or moved on, and none left a terminal one."""
    return (
        _moves_on(before.order.status, after.order.status, ORDER_RANKS)
        and _moves_on(before.stock, after.stock, STOCK_RANKS)
        and _moves_on(before.payment.status, after.payment.status, PAYMENT_RANKS)
    )


def _moves_on(before: Status, after: Status, ranks: Ranks) -> bool:
    return before is after or ranks[before] < ranks[after]


def person_cancels(before: State, after: State) -> bool:
    """Whether a Confirmed order is given up because somebody wants it, never by the saga itself."""
    was_taken = before.order.status is OrderStatus.CONFIRMED and after.order.status is OrderStatus.CANCELLED
    return not was_taken or after.order.reason in (CancelReason.CUSTOMER, CancelReason.STAFF)


def ends_with_closing(before: State, after: State) -> bool:
    """Whether no confirmation went out after the news that the order is over."""
    if before.mails == after.mails or all(kind is not Kind.CLOSING for kind, _ in before.mails):
        return True
    return all(kind is not Kind.CONFIRMATION for kind, _ in set(after.mails) - set(before.mails))


AT_EACH_STEP: Final[Mapping[str, Callable[[State, State], bool]]] = {
    "nothing moves back or leaves a terminal state": moves_on,
    "only a person cancels a Confirmed order": person_cancels,
    "no confirmation follows a closing": ends_with_closing,
}
"""Between one instant and the next."""


def holds_nothing(state: State) -> bool:
    """Whether a cancelled order has neither stock nor money, and orders knows what became of the money."""
    if state.order.status is not OrderStatus.CANCELLED:
        return True
    has_no_stock, has_no_money = state.stock in NOTHING_HELD, state.processor.charges == state.processor.refunds
    return has_no_stock and has_no_money and state.order.payment is CLOSED_AS.get(state.payment.status)


def has_left(state: State) -> bool:
    """Whether the stock of an order that was sent is off the shelf."""
    return bool(state.dead) or state.order.status not in SENT or state.stock is ReservationStatus.SHIPPED


AT_REST: Final[Mapping[str, Callable[[State], bool]]] = {
    "a cancelled order holds nothing": holds_nothing,
    "what was sent is off the shelf": has_left,
}
"""Where nothing is left to happen."""

NO_ALARM: Final = "no alarm is reached"
TOLD_ALL: Final = "customers are told all there is to tell"
COMES_TO_REST: Final = "every order comes to rest"
PROMISES: Final = (NO_ALARM, *ALWAYS, *AT_EACH_STEP, *AT_REST, TOLD_ALL, COMES_TO_REST)
"""All of them, in words."""


def is_told_all(state: State, channels: tuple[Channel, ...]) -> bool:
    """Whether the customer was told, on every channel, what must be told in the end, and nothing that may not be."""
    must = set(product(_kinds_due(state), channels))
    maybe = {Kind.CONFIRMATION, Kind.RECEIPT} if state.order.status is OrderStatus.CANCELLED else set()
    return bool(state.dead) or must <= set(state.mails) <= must | set(product(maybe, channels))


def _kinds_due(state: State) -> Iterator[Kind]:
    if state.order.status is OrderStatus.CANCELLED:
        yield Kind.CLOSING
        if state.processor.refunds:
            yield Kind.REFUND
        return
    yield from (Kind.CONFIRMATION, Kind.RECEIPT)
    if state.order.status in SENT:
        yield Kind.SHIPPING
    if state.order.status is OrderStatus.DELIVERED:
        yield Kind.DELIVERY
