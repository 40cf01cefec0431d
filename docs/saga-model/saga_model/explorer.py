"""Goes everywhere a saga can go, breadth first, so that there is no shorter way to the first broken promise."""

from dataclasses import dataclass, field
from typing import NamedTuple

from events import CancelReason
from saga_model.moves import Move, Saga, Weather, Words
from saga_model.promises import ALWAYS, AT_EACH_STEP, AT_REST, COMES_TO_REST, NO_ALARM, TOLD_ALL, is_told_all
from saga_model.rules import PRODUCT, Rules
from saga_model.services import Place
from saga_model.state import State
from services.chassis.errors import Alarm
from services.inventory.transitions import ReservationStatus
from services.notifications.models import Kind
from services.orders.transitions import OrderStatus
from services.payments.transitions import PaymentStatus


class Broken(Exception):
    """A promise does not hold in the state with this number, or when ``last`` happens there."""

    def __init__(self, promise: str, number: int, last: Words = ()) -> None:
        super().__init__(promise)
        self.promise = promise
        self.number = number
        self.last = last


class Outcome(NamedTuple):
    """How an order may end, or wait for people, once every letter was answered."""

    status: OrderStatus
    reason: CancelReason | None
    stock: ReservationStatus | None
    payment: PaymentStatus | None
    told: frozenset[Kind]


@dataclass(frozen=True)
class Course:
    """What an exploration saw, and the first broken promise with the way there.

    ``states`` and ``moves`` say how much, ``visited`` are the cells it came to.
    """

    states: int
    moves: int
    outcomes: frozenset[Outcome]
    visited: frozenset[Place]
    broken: str | None = None
    trace: tuple[str, ...] = ()


def explore(weather: Weather, rules: Rules = PRODUCT) -> Course:
    """Everywhere an order can go in this weather, or as far as the first broken promise."""
    explorer = Explorer(Saga(rules, weather))
    try:
        explorer.go()
        explorer.check_ways_to_rest()
    except Broken as broken:
        return explorer.course(broken.promise, explorer.way_to(broken.number, broken.last))
    return explorer.course()


@dataclass
class Explorer:
    """The states found so far by number, how each was reached first, and from where it must be reached at last."""

    saga: Saga
    states: list[State] = field(default_factory=list)
    numbers: dict[State, int] = field(default_factory=dict)
    origins: list[tuple[int, Words]] = field(default_factory=list)
    before: list[list[int]] = field(default_factory=list)
    resting: list[int] = field(default_factory=list)
    moves: int = 0

    def go(self) -> None:
        """Find every state. Raises Broken."""
        self._meet(self.saga.begin(), (-1, ("an order is placed",)))
        for number, state in enumerate(self.states):  # grows meanwhile
            try:
                for move in self.saga.moves(state):
                    self._follow(number, state, move)
            except Alarm as alarm:
                raise Broken(NO_ALARM, number, (alarm,)) from None

    def _follow(self, number: int, state: State, move: Move) -> None:
        self.moves += 1
        for promise, holds in AT_EACH_STEP.items():
            if not holds(state, move.state):
                raise Broken(promise, number, move.what)
        reached = self.numbers.get(move.state)
        if reached is None:
            reached = self._meet(move.state, (number, move.what))
        if move.must:
            self.before[reached].append(number)

    def _meet(self, state: State, origin: tuple[int, Words]) -> int:
        number = self.numbers[state] = len(self.states)
        self.states.append(state)
        self.origins.append(origin)
        self.before.append([])
        for promise, holds in ALWAYS.items():
            if not holds(state):
                raise Broken(promise, number)
        if self._is_resting(state):
            self.resting.append(number)
            self._check_rest(number, state)
        return number

    def _is_resting(self, state: State) -> bool:
        """Whether nothing is left to happen but what people want."""
        order, waiting = state.order, self.saga.rules.waits.values()
        if state.owed or order.status is OrderStatus.PENDING or state.payment.status in waiting:
            return False
        return order.status is not OrderStatus.CANCELLED or order.is_settled

    def _check_rest(self, number: int, state: State) -> None:
        for promise, holds in AT_REST.items():
            if not holds(state):
                raise Broken(promise, number)
        if self.saga.weather.channels and not is_told_all(state, self.saga.weather.channels):
            raise Broken(TOLD_ALL, number)

    def check_ways_to_rest(self) -> None:
        """From every state what must happen leads to rest. Raises Broken for the first from which it does not."""
        good, ahead = set(self.resting), list(self.resting)
        while ahead:
            new = set(self.before[ahead.pop()]) - good
            good |= new
            ahead += new
        lost = next((number for number in range(len(self.states)) if number not in good), None)
        if lost is not None:
            raise Broken(COMES_TO_REST, lost)

    def way_to(self, number: int, last: Words) -> tuple[str, ...]:
        """What happened first, and then, until this state; then the last thing."""
        steps = [last] if last else []
        while number >= 0:
            number, what = self.origins[number]
            steps.append(what)
        return tuple(" ".join(map(str, step)) for step in reversed(steps))

    def course(self, broken: str | None = None, trace: tuple[str, ...] = ()) -> Course:
        """What was seen."""
        outcomes = frozenset(outcome_of(self.states[number]) for number in self.resting if not self.states[number].dead)
        visited = frozenset(self.saga.services.visited)
        return Course(len(self.states), self.moves, outcomes, visited, broken, trace)


def outcome_of(state: State) -> Outcome:
    """What a state at rest comes to."""
    told = frozenset(kind for kind, _ in state.mails)
    return Outcome(state.order.status, state.order.reason, state.stock, state.payment.status, told)
