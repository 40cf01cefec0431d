"""What each service makes of a message, an action or an answer: the cell of its table, and what goes with a cell.

A handler is one transaction, so it happens or it does not, and the event of a change is as certain as the change.
Only notifications has none: it may die between two channels, with the message not acknowledged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from events import (
    CancelReason,
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    InventoryReservedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderDeliveredEvent,
    OrderEvent,
    OrderShippedEvent,
    PaymentVoidedEvent,
    VoidOutcome,
)
from saga_model.rules import Rules
from saga_model.state import Detail, Mails, Message, Order, Payment
from services.chassis.errors import Alarm
from services.inventory.transitions import ReservationStatus
from services.notifications.models import Channel
from services.orders.transitions import Cell as OrderCell
from services.orders.transitions import OrderStatus, Trigger
from services.orders.transitions import PaymentStatus as OrderPayment
from services.payments.transitions import Abandoned, Answer, AttemptKind, Cell, PaymentStatus

TOLD_OF_ORDER: Final[Mapping[OrderStatus, type[OrderEvent]]] = {
    OrderStatus.CONFIRMED: OrderConfirmedEvent,
    OrderStatus.SHIPPED: OrderShippedEvent,
    OrderStatus.DELIVERED: OrderDeliveredEvent,
    OrderStatus.CANCELLED: OrderCancelledEvent,
}
REASONS: Final[Mapping[Trigger, CancelReason]] = {
    Trigger.PAYMENT_FAILED: CancelReason.PAYMENT_FAILED,
    Trigger.RESERVATION_FAILED: CancelReason.OUT_OF_STOCK,
    Trigger.CANCEL: CancelReason.CUSTOMER,
    Trigger.DEADLINE: CancelReason.EXPIRED,
}
REPORTS: Final[Mapping[Trigger, OrderPayment]] = {
    Trigger.PAYMENT_PROCESSED: OrderPayment.COMPLETED,
    Trigger.PAYMENT_FAILED: OrderPayment.FAILED,
    Trigger.PAYMENT_REFUNDED: OrderPayment.REFUNDED,
}
TOLD_OF_STOCK: Final[Mapping[ReservationStatus, type[OrderEvent]]] = {
    ReservationStatus.RESERVED: InventoryReservedEvent,
    ReservationStatus.REJECTED: InventoryReservationFailedEvent,
}


class Reaction(NamedTuple):
    """What a service has stored afterwards and what it tells; whether it lived to acknowledge the message."""

    stored: Any
    told: tuple[Message, ...] = ()
    is_acknowledged: bool = True


@dataclass(frozen=True)
class Place:
    """A cell of one of the tables, by table, column and row.

    In the table of answers a column is a kind of request and an answer, and a row whether the order was cancelled
    meanwhile, or None where that makes no difference.
    """

    table: str
    column: object
    row: object


class Services:
    """All four, by the rules; ``visited`` are the cells that anything ever came to."""

    def __init__(self, rules: Rules, channels: tuple[Channel, ...]) -> None:
        self.rules = rules
        self.channels = channels
        self.visited: set[Place] = set()

    # --- orders

    def orders(self, order: Order, message: Message) -> Iterator[Reaction]:
        """An event moves the order, settles it, or is only noted."""
        yield self.move(order, Trigger(message.event.__name__), message.detail)

    def move(self, order: Order, trigger: Trigger, detail: Detail = None) -> Reaction:
        """What an event, a person or the clock makes of the order. Raises Alarm."""
        self.visited.add(Place("orders", trigger, order.status))
        cell = self.rules.orders[trigger][order.status]
        if cell is OrderCell.ALARM:
            raise Alarm(f"{trigger} in {order.status}")
        if cell is OrderCell.SETTLED:
            return Reaction(self._settled(order, trigger, detail))
        paid = self._paid(order, REPORTS.get(trigger))
        if not isinstance(cell, OrderStatus):
            return Reaction(paid)
        reason = REASONS[trigger] if cell is OrderStatus.CANCELLED else None
        return Reaction(paid._replace(status=cell, reason=reason), (Message(TOLD_OF_ORDER[cell], reason),))

    def _settled(self, order: Order, trigger: Trigger, detail: Detail) -> Order:
        if trigger is Trigger.INVENTORY_RELEASED:
            return order._replace(is_stock_settled=True)
        if order.is_payment_settled:
            return order
        report = REPORTS.get(trigger) or self.rules.voided_as[VoidOutcome(str(detail))]
        return self._paid(order, report)._replace(is_payment_settled=True)

    def _paid(self, order: Order, report: OrderPayment | None) -> Order:
        """The order with this report about its money, where it is one that may follow what is known."""
        if report is None or report not in self.rules.order_payments[order.payment]:
            return order
        return order._replace(payment=report)

    # --- inventory

    def inventory(self, stock: ReservationStatus | None, message: Message) -> Iterator[Reaction]:
        """An event moves the reservation; an order that is new fits or does not. Raises Alarm."""
        self.visited.add(Place("stock", message.event, stock))
        cell = self.rules.stock[message.event][stock]
        if cell.alarm:
            raise Alarm(f"{message} in {stock}")
        released = (Message(InventoryReleasedEvent, cell.released),) if cell.released else ()
        if not cell.to:
            yield Reaction(stock, released)
        for status in cell.to:
            answer = (Message(TOLD_OF_STOCK[status]),) if status in TOLD_OF_STOCK else ()
            yield Reaction(status, answer + released)

    # --- payments

    def payments(self, payment: Payment, message: Message) -> Iterator[Reaction]:
        """An event opens the payment, voids it or asks for the money back."""
        self.visited.add(Place("payments", message.event, payment.status))
        cell = self.rules.payments[message.event][payment.status]
        if message.event is OrderCancelledEvent and (cell.to or cell.requests_cancel):
            payment = payment._replace(is_cancel_requested=True)
        yield self._follow(payment, cell, VoidOutcome.NEVER_CHARGED)

    def answered(self, payment: Payment, kind: AttemptKind, answer: type[Answer]) -> Reaction:
        """The answer moves a payment that waits for one of its kind, and no other."""
        if payment.status != self.rules.waits[kind]:
            return Reaction(payment)
        cell = self.rules.answers[kind][answer]
        self.visited.add(Place("answers", (kind, answer), payment.is_cancel_requested if cell.if_cancelled else None))
        cell = cell.cell_for(cancelled=payment.is_cancel_requested)
        return self._follow(payment, cell, VoidOutcome.TIMEOUT if answer is Abandoned else VoidOutcome.DECLINED)

    def _follow(self, payment: Payment, cell: Cell, outcome: VoidOutcome) -> Reaction:
        if cell.to:
            payment = payment._replace(status=cell.to)
        if cell.to in (PaymentStatus.FAILED, PaymentStatus.VOIDED):
            payment = payment._replace(void_outcome=outcome)
        told = (Message(event, payment.void_outcome if event is PaymentVoidedEvent else None) for event in cell.tells)
        return Reaction(payment, tuple(told))

    # --- notifications

    def notifications(self, mails: Mails, message: Message) -> Iterator[Reaction]:
        """The customer is told on every channel, or on the first ones only when the process dies meanwhile."""
        if message.event is OrderCancelledEvent and message.detail in self.rules.untold:
            yield Reaction(mails)
            return
        kind = self.rules.notices[message.event]
        others = [other for other in self.rules.silenced_by[kind] if other is not kind]
        for channel in self.channels:
            if any(filed in others for filed, _ in mails):
                break
            if kind not in self.rules.silenced_by[kind] or (kind, channel) not in mails:
                mails = tuple(sorted((*mails, (kind, channel))))
            yield Reaction(mails, is_acknowledged=False)
        yield Reaction(mails)
