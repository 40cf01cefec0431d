"""Everything that may happen to orders, one step at a time, in any order: what Hypothesis draws from."""

import sys
from collections.abc import Sequence
from typing import Any, ClassVar, Final, TypeVar
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from events import OrderEvent, OrderShippedEvent, PaymentProcessedEvent
from services.chassis import wire
from services.chassis.auth import Principal
from services.chassis.errors import Conflict, InvalidInput
from services.orders.schemas import PAYMENT_METHODS
from services.orders.transitions import TRANSITIONS, Cell, OrderStatus, Trigger
from tests.property.crashes import Crash, Killed
from tests.property.house import CUSTOMER, PRODUCTS, STAFF, House, event_of
from tests.property.post import Message

Thing = TypeVar("Thing")

NUMBERS: Final = st.integers(0, 999)
"""Which of the things that are there, counted around."""

CRASHES: Final = st.sampled_from([*[Crash.NEVER] * 6, Crash.BEFORE, Crash.AFTER])
PLENTY: Final = st.dictionaries(st.just(PRODUCTS[0]), st.integers(1, 2), min_size=1)
LINES: Final = PLENTY | st.dictionaries(st.sampled_from(PRODUCTS), st.integers(1, 2), min_size=1)
METHODS: Final = st.sampled_from([*["pm_ok"] * 6, *PAYMENT_METHODS])
FAULTS: Final = st.sampled_from(
    [
        *[("charge", kind) for kind in ("fail", "lose", "twice")],
        *[("abandon", kind) for kind in ("fail", "lose")],
        *[("refund", kind) for kind in ("fail", "lose", "twice", "refuse")],
    ]
)


def pick(things: Sequence[Thing], number: int) -> Thing:
    """One of them."""
    return things[number % len(things)]


class Saga(RuleBasedStateMachine):
    """Customers, staff, the clock, the broker, the processor and the kernel's out-of-memory killer."""

    house: ClassVar[House]
    steps: ClassVar[int] = 0
    endings: ClassVar[int] = 0
    """How many examples came to rest and were found in order."""

    def __init__(self) -> None:
        super().__init__()
        self.house.clear()
        self.post = self.house.post
        self.orders: list[str] = []

    @invariant()
    def holds(self) -> None:
        """What saga.md says of any instant."""
        Saga.steps += 1
        self.house.check_now()

    def teardown(self) -> None:
        """What saga.md says of a quiet system, unless something is wrong already."""
        if sys.exc_info()[0] is None:
            self.house.come_to_rest()
            self.house.check_now()
            Saga.endings += 1

    # --- people

    @initialize(wishes=st.lists(st.tuples(LINES, METHODS), min_size=1, max_size=4), number=NUMBERS)
    def open(self, wishes: list[tuple[dict[Any, int], str]], number: int) -> None:
        """There is always somebody at the door in the morning."""
        for lines, method in wishes:
            self.place(lines, method, Crash.NEVER, 1)
        if number % 2:
            self.go_on(number)

    @rule(lines=LINES, method=METHODS, crash=CRASHES, commits=st.integers(1, 3))
    def place(self, lines: dict[Any, int], method: str, crash: Crash, commits: int) -> None:
        """Somebody orders, and asks again with the same key when no answer came."""
        items = [{"productId": str(product_id), "quantity": quantity} for product_id, quantity in lines.items()]
        body, key = {"items": items, "paymentMethod": method}, str(uuid4())
        orders = self.house.service("orders", CUSTOMER)
        try:
            try:
                answer = self.house.run("orders", lambda: orders.place_order(body, key), crash, commits)
            except Killed:
                answer = self.house.run("orders", lambda: orders.place_order(body, key))
        except InvalidInput as refusal:
            assert refusal.code == "product_unavailable"  # noqa: PT017 - most orders are not refused
            return
        self.orders.append(str(answer["order"]["id"]))
        placed = self.house.rows("orders", "SELECT count(*) FROM orders")[0][0]
        assert placed == len(self.orders), "one request, one order"

    @precondition(lambda self: self.orders)
    @rule(number=NUMBERS, caller=st.sampled_from([CUSTOMER, STAFF]), crash=CRASHES)
    def cancel(self, number: int, caller: Principal, crash: Crash) -> None:
        """Somebody does not want it any more."""
        self.move(
            Trigger.CANCEL, self.pick_order(number, OrderStatus.CONFIRMED), caller, crash, {"reason": "changed my mind"}
        )

    @precondition(lambda self: self.orders)
    @rule(number=NUMBERS, crash=CRASHES)
    def ship(self, number: int, crash: Crash) -> None:
        """Staff send the goods."""
        self.move(Trigger.SHIP, self.pick_order(number, OrderStatus.CONFIRMED), STAFF, crash, {"tracking": "1"})

    @precondition(lambda self: self.orders)
    @rule(number=NUMBERS, crash=CRASHES)
    def note_delivery(self, number: int, crash: Crash) -> None:
        """Staff hear that the goods arrived."""
        self.move(Trigger.DELIVER, self.pick_order(number, OrderStatus.SHIPPED), STAFF, crash)

    def move(self, trigger: Trigger, order_id: str, caller: Principal, crash: Crash, *body: Any) -> None:
        """A person moves an order exactly where the table allows it."""
        before = self.status(order_id)
        cell = TRANSITIONS[trigger][before]
        method = getattr(self.house.service("orders", caller), f"{trigger}_order")
        try:
            self.house.run("orders", lambda: method(order_id, *body), crash)
        except Conflict:
            assert cell is Cell.REFUSED
            return
        except Killed:
            if crash is Crash.BEFORE:
                return
        assert cell is not Cell.REFUSED
        assert self.status(order_id) == (cell if isinstance(cell, OrderStatus) else before)

    def pick_order(self, number: int, likely: OrderStatus) -> str:
        """An order, every other time one in this status if there is any: most would be refused otherwise."""
        query = "SELECT id::text FROM orders WHERE status = :status"
        ready = {row[0] for row in self.house.rows("orders", query, status=likely)} if number % 2 else set()
        return pick([order_id for order_id in self.orders if order_id in ready] or self.orders, number // 2)

    def status(self, order_id: str) -> OrderStatus:
        """Where the order stands."""
        return OrderStatus(self.house.rows("orders", "SELECT status FROM orders WHERE id = :id", id=order_id)[0][0])

    @rule(product=st.sampled_from(PRODUCTS), cents=st.integers(0, 50), active=st.booleans(), crash=CRASHES)
    def change_product(self, product: Any, cents: int, active: bool, crash: Crash) -> None:  # noqa: FBT001
        """An administrator changes a price, or takes a product off the shelf."""
        inventory = self.house.service("inventory")
        change = {"price": cents, "active": active}
        self.run_killed("inventory", lambda: inventory.change_product(str(product), change), crash)

    @rule(product=st.sampled_from(PRODUCTS), delta=st.sampled_from([-2, -1, 1, 2]), crash=CRASHES)
    def adjust_stock(self, product: Any, delta: int, crash: Crash) -> None:
        """Staff count the shelf."""
        inventory = self.house.service("inventory")
        change = {"delta": delta, "reason": "counted"}
        try:
            self.run_killed("inventory", lambda: inventory.adjust_stock(str(product), change), crash)
        except Conflict:
            assert delta < 0

    def run_killed(self, service: str, act: Any, crash: Crash) -> None:
        """Do it, and mind nothing if the process dies."""
        try:
            self.house.run(service, act, crash)
        except Killed:
            return

    # --- the clock

    @precondition(lambda self: self.orders)
    @rule(number=NUMBERS, crash=CRASHES)
    def expire(self, number: int, crash: Crash) -> None:
        """An order's deadline passes."""
        self.house.let_deadlines_pass(pick(self.orders, number))
        self.run_killed("orders", self.house.service("orders").expire_orders, crash)

    @precondition(lambda self: self.orders)
    @rule(crash=CRASHES)
    def remind(self, crash: Crash) -> None:
        """Cancelled orders that are not settled are told of again."""
        self.house.let_reminders_fall_due()
        self.run_killed("orders", self.house.service("orders").remind_of_settlement, crash)

    # --- the broker

    @precondition(lambda self: self.post.queue)
    @rule(crash=CRASHES)
    def deliver_next(self, crash: Crash) -> None:
        """The oldest message arrives."""
        self.house.deliver(self.post.queue[0], crash)

    @precondition(lambda self: self.post.queue)
    @rule(number=NUMBERS, crash=CRASHES)
    def deliver_any(self, number: int, crash: Crash) -> None:
        """A message overtakes others."""
        self.house.deliver(pick(self.post.queue, number), crash)

    @precondition(lambda self: self.post.queue)
    @rule(number=NUMBERS)
    def deliver_newest(self, number: int) -> None:
        """What was sent last arrives first, and what follows from it likewise."""
        for _ in range(1 + number % 5):
            if self.post.queue:
                self.house.deliver(self.post.queue[-1])

    @precondition(lambda self: self.post.delivered)
    @rule(number=NUMBERS, crash=CRASHES)
    def deliver_again(self, number: int, crash: Crash) -> None:
        """A message arrives that has arrived before."""
        self.post.repeat(pick(self.post.delivered, number))
        self.house.deliver(self.post.queue[-1], crash)

    @precondition(lambda self: self.post.queue)
    @rule(number=NUMBERS)
    def copy(self, number: int) -> None:
        """A relay died between the broker's confirmation and its own note: there are two of a message."""
        self.post.repeat(pick(self.post.queue, number))

    @precondition(lambda self: self.post.queue)
    @rule(number=NUMBERS)
    def lose(self, number: int) -> None:
        """A message goes astray."""
        message = pick(self.post.queue, number)
        self.post.queue.remove(message)
        self.post.lost.append(message)

    @precondition(lambda self: self.post.lost)
    @rule(number=NUMBERS)
    def find(self, number: int) -> None:
        """A message that went astray is there again."""
        message = pick(self.post.lost, number)
        self.post.lost.remove(message)
        self.post.queue.append(message)

    @precondition(lambda self: self.post.queue)
    @rule(number=NUMBERS)
    def give_up(self, number: int) -> None:
        """A message has killed its process too often: the broker puts it with the dead letters."""
        message = pick(self.post.queue, number)
        self.post.queue.remove(message)
        self.post.bury(message)

    @precondition(lambda self: self.post.dead)
    @rule(number=NUMBERS)
    def replay(self, number: int) -> None:
        """Somebody replays a dead letter."""
        self.post.replay(pick(self.post.dead, number))

    @rule(kind=st.sampled_from([OrderShippedEvent, PaymentProcessedEvent]))
    def tell_nonsense(self, kind: type[OrderEvent]) -> None:
        """Somebody dispatches an event by hand, about an order that never was."""
        paid = {"payment_id": uuid4(), "amount_cents": 100, "currency": "EUR", "transaction_id": "x"}
        event = event_of(kind, uuid4(), **(paid if kind is PaymentProcessedEvent else {}))
        for each in self.post.subscriptions:
            if (each.source, each.event) == (kind.publisher, kind.__name__):
                body = wire.encode(event).decode()
                self.post.queue.append(Message(each, event.event_id, event.order_id, body, by_hand=True))

    # --- the processor

    @rule(crash=CRASHES)
    def send_attempt(self, crash: Crash) -> None:
        """The worker asks the processor for something; the answer is on its way."""
        try:
            self.house.send_attempt(crash)
        except Killed:
            return

    @precondition(lambda self: self.house.errands)
    @rule(number=NUMBERS, crash=CRASHES, commits=st.integers(1, 2))
    def record_answer(self, number: int, crash: Crash, commits: int) -> None:
        """An answer of the processor arrives, perhaps long after another was asked for."""
        try:
            self.house.record(pick(self.house.errands, number), crash, commits)
        except Killed:
            return

    @rule(number=NUMBERS)
    def work_off(self, number: int) -> None:
        """The worker does what is due."""
        for _ in range(1 + number % 6):
            self.house.send_attempt()
            if self.house.errands:
                self.house.record(self.house.errands[-1])

    @precondition(lambda self: self.orders)
    @rule(number=NUMBERS)
    def go_on(self, number: int) -> None:
        """For a while all goes as it should."""
        for _ in range(1 + number % 30):
            if self.post.queue:
                self.house.deliver(self.post.queue[0])
            self.house.send_attempt()
            if self.house.errands:
                self.house.record(self.house.errands[0])

    @precondition(lambda self: self.house.errands)
    @rule(number=NUMBERS)
    def die_before_recording(self, number: int) -> None:
        """The processor has acted, and nobody is left to note it."""
        errand = pick(self.house.errands, number)
        self.house.errands.remove(errand)
        errand.die()

    @rule()
    def let_leases_run_out(self) -> None:
        """Others may ask again, while an answer may still be on its way."""
        self.house.let_leases_run_out()

    @precondition(lambda self: self.orders)
    @rule(number=NUMBERS, fault=FAULTS)
    def spoil_processor(self, number: int, fault: tuple[str, str]) -> None:
        """The processor misbehaves once for an order."""
        call, kind = fault
        order_id = pick(self.orders, number)
        key = f"{order_id}:refund" if call == "refund" else order_id
        self.house.execute(
            "payments",
            "INSERT INTO processor.faults (target, call, kind, times) VALUES (:key, :call, :kind, 1)",
            key=key,
            call=call,
            kind=kind,
        )
