"""Every order in which one service may get the events of one order: its real handlers, held against the tables.

A service is alone here and gets events as the others would have sent them, each perhaps twice, in every permutation,
also in those that only a dead letter's late replay could bring about. What is given up on the way is replayed in the
end. What must come of it is folded over the same tables that the services obey.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import events
from events import OrderEvent
from services.chassis.errors import Conflict
from services.chassis.messaging import classify
from services.chassis.work import Delivery
from services.inventory import transitions as stock
from services.notifications.models import Kind, notice_of
from services.orders import transitions as orders
from services.payments import transitions as money
from tests.faults.message_cases import ACTS, ASK, PLENTY, SCARCE, Case
from tests.integration.notifications.bench import HANDLERS as TELLERS
from tests.integration.notifications.bench import Bench
from tests.property.house import CUSTOMER, STAFF, House


class Alone:
    """One service by itself. ``state`` reads what became of an order, ``fold`` says it from the tables."""

    name: str
    state: str

    def __init__(self, house: House) -> None:
        self.house = house
        self.methods = {each.event: each.method for each in house.post.subscriptions if each.service == self.name}

    def begin(self, case: Case) -> None:
        """What is there before the first event."""

    def take(self, case: Case, step: str) -> str:
        """What came of the step: ``done``, or how it failed."""
        event = case.event(step)
        method = self.methods[event.event_type]
        try:
            getattr(self.house.service(self.name), method)(Delivery(event, f"{self.name}.{method}", 1))
        except Exception as error:  # noqa: BLE001 - as the chassis meets whatever a handler raises
            return classify(error)
        return "done"

    def finish(self) -> None:
        """Do what the service does by itself."""

    def found(self, case: Case) -> Any:
        """What became of the order."""
        rows = self.house.rows(self.name, self.state, id=case.order_id)
        return tuple(rows[0]) if rows else None

    def play(self, case: Case, steps: Sequence[str]) -> None:
        """Take the steps in this order, then replay what was given up; fails where the tables say otherwise."""
        self.begin(case)
        expected = self.fold(case)
        given_up = []
        for step in steps:
            is_alarm = expected(step)
            came_to = self.take(case, step)
            assert came_to == ("alarm" if is_alarm else "done"), (steps, step, came_to)
            given_up += [step] if is_alarm else []
        for step in given_up:  # in the end most of it is possible
            assert self.take(case, step) == ("alarm" if expected(step) else "done"), (steps, step)
        self.finish()
        expected("")
        assert self.found(case) == expected.state, steps

    def fold(self, case: Case) -> Any:
        """What to ask of each step whether it is an alarm; ``state`` is where the order is afterwards."""
        raise NotImplementedError


class Inventory(Alone):
    """Reservations."""

    name = "inventory"
    state = "SELECT status FROM reservations WHERE order_id = :id"

    def fold(self, case: Case) -> Any:
        """By inventory's table."""
        return StockFold(case)


class StockFold:
    """Where the order's stock is."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.status: stock.ReservationStatus | None = None

    @property
    def state(self) -> Any:
        """As the database says it."""
        return (self.status,) if self.status else None

    def __call__(self, step: str) -> bool:
        """Take the step; whether it is an alarm."""
        if not step:
            return False
        cell = stock.TRANSITIONS[type(self.case.event(step))][self.status]
        if cell.to:
            self.status = cell.to[-1 if self.case.product_id == SCARCE else 0]
        return cell.alarm


class Payments(Alone):
    """Payments and their worker."""

    name = "payments"
    state = "SELECT status FROM payments WHERE order_id = :id"

    def take(self, case: Case, step: str) -> str:
        """An event, or what the worker does once."""
        if step != ASK:
            return super().take(case, step)
        self.house.send_attempt()
        for errand in list(self.house.errands):
            self.house.record(errand)
        return "done"

    def finish(self) -> None:
        """Until nothing is left to ask."""
        for _ in range(3):
            self.take(Case(""), ASK)

    def fold(self, case: Case) -> Any:
        """By payments' tables."""
        return MoneyFold(case)


class MoneyFold:
    """Where the order's money is."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.status: money.PaymentStatus | None = None
        self.is_cancelled = False

    @property
    def state(self) -> Any:
        """As the database says it."""
        return (self.status,) if self.status else None

    def __call__(self, step: str) -> bool:
        """Take the step; nothing is an alarm here."""
        if step not in ("", ASK):
            kind = type(self.case.event(step))
            self.status = money.EVENTS[kind][self.status].to or self.status
            self.is_cancelled |= kind is events.OrderCancelledEvent
        for _ in range(3 if not step else step == ASK):
            self._ask()
        return False

    def _ask(self) -> None:
        charged = money.Declined if self.case.method == "pm_declined" else money.Charged
        for kind, answer in ((money.AttemptKind.CHARGE, charged), (money.AttemptKind.REFUND, money.Refunded)):
            if money.WAITS[kind] == self.status:
                self.status = money.ANSWERS[kind][answer].cell_for(cancelled=self.is_cancelled).to
                return


class Orders(Alone):
    """Orders, moved by events, people and the clock."""

    name = "orders"
    state = """SELECT status, payment_status, stock_settled_at IS NOT NULL, payment_settled_at IS NOT NULL
        FROM orders WHERE id = :id"""

    def begin(self, case: Case) -> None:
        """A Pending order."""
        items = [{"productId": str(PLENTY), "quantity": 2}]
        service = self.house.service("orders", CUSTOMER)
        answer = service.place_order({"items": items, "paymentMethod": case.method}, str(uuid4()))
        case.order_id = UUID(answer["order"]["id"])

    def take(self, case: Case, step: str) -> str:
        """An event, or what somebody does or would like to do."""
        if step not in ACTS:
            return super().take(case, step)
        service, order_id = self.house.service("orders", STAFF), str(case.order_id)
        try:
            self._act(service, step, order_id)
        except Conflict:
            return "done"
        return "done"

    def _act(self, service: Any, step: str, order_id: str) -> None:
        if step == "expire":
            self.house.let_deadlines_pass(order_id)
            service.expire_orders()
        elif step == "deliver":
            service.deliver_order(order_id)
        else:
            getattr(service, f"{step}_order")(order_id, {})

    def fold(self, case: Case) -> Any:
        """By the orders' tables."""
        return OrderFold(case)


class OrderFold:
    """Where the order stands, and what it knows of its money."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.status = orders.OrderStatus.PENDING
        self.payment = orders.PaymentStatus.PENDING
        self.is_stock_settled = self.is_payment_settled = False
        self.answered: set[str] = set()

    @property
    def state(self) -> Any:
        """As the database says it."""
        return self.status, self.payment, self.is_stock_settled, self.is_payment_settled

    def __call__(self, step: str) -> bool:
        """Take the step; whether it is an alarm."""
        if not step or step in self.answered:
            return False
        event = None if step in ACTS else self.case.event(step)
        trigger = ACTS[step] if event is None else orders.Trigger(event.event_type)
        cell = orders.TRANSITIONS[trigger][self.status]
        if cell is orders.Cell.ALARM:
            return True
        self.status = cell if isinstance(cell, orders.OrderStatus) else self.status
        if event is not None:
            self.answered.add(step)
            self._note(event)
        return False

    def _note(self, event: OrderEvent) -> None:
        if isinstance(event, events.InventoryReleasedEvent):
            self.is_stock_settled = True
        reported = self._reported(event)
        if reported in orders.PAYMENT_MOVES[self.payment]:
            self.payment = reported
        self.is_payment_settled |= isinstance(event, events.PaymentVoidedEvent | events.PaymentRefundedEvent)

    @staticmethod
    def _reported(event: OrderEvent) -> Any:
        if isinstance(event, events.PaymentVoidedEvent):
            return orders.VOIDED_AS[event.outcome]
        return {
            events.PaymentProcessedEvent: orders.PaymentStatus.COMPLETED,
            events.PaymentFailedEvent: orders.PaymentStatus.FAILED,
            events.PaymentRefundedEvent: orders.PaymentStatus.REFUNDED,
        }.get(type(event))


ALONE: Final[Mapping[str, Callable[[House], Alone]]] = {"orders": Orders, "inventory": Inventory, "payments": Payments}


def play_mails(bench: Bench, story: str, steps: Sequence[str]) -> None:
    """Let notifications hear the events in this order; fails unless it tells what it may tell, in the order it may."""
    case = Case(story)
    sent: list[Kind] = []
    for step in steps:
        event = case.event(step)
        assert type(event) in TELLERS
        bench.tell(event)
        notice = notice_of(event)
        if notice and not {*notice.kind.silenced_by} & {*sent}:
            sent.append(notice.kind)
    assert bench.mails(case.order_id) == sent, steps
