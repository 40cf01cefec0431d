"""Everything that can happen next: people, the clock, the broker, the worker of payments, the card processor."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from events import OrderCancelledEvent, OrderCreatedEvent
from saga_model.post import Letter, Post
from saga_model.rules import Rules
from saga_model.services import Reaction, Services
from saga_model.state import Message, Order, Payment, Processor, State
from services.chassis.errors import Alarm
from services.notifications.models import Channel
from services.orders.transitions import ACTIONS, OrderStatus, Trigger
from services.payments.transitions import (
    Abandoned,
    Answer,
    AttemptKind,
    Charged,
    Declined,
    Refunded,
    Refused,
    Unanswered,
)

STORED_BY: Final = {"orders": "order", "inventory": "stock", "payments": "payment", "notifications": "mails"}
IN_WORDS: Final = {
    Trigger.CANCEL: "somebody cancels the order",
    Trigger.SHIP: "staff ship the order",
    Trigger.DELIVER: "staff note that the order arrived",
    Trigger.DEADLINE: "the deadline passes",
}
BOOKS: Final[Mapping[AttemptKind, tuple[type[Answer], ...]]] = {
    AttemptKind.CHARGE: (Charged, Declined),
    AttemptKind.ABANDON: (Abandoned,),
}
"""What the processor may make of a charge that it has not heard of yet."""

Words = tuple[object, ...]


@dataclass(frozen=True)
class Weather:
    """How much goes wrong, and with what an order must come to rest all the same.

    ``most_dead`` letters may lie with the dead letters at a time; somebody may replay them, but nobody has to. Only
    where there are any may an order count on its deadline and on reminders. Without ``charges_answered`` no charge is
    answered for certain, only the wish to give it up. ``channels`` are those on which customers are told; none to leave
    notifications out.
    """

    name: str
    most_dead: int = 0
    charges_answered: bool = False
    channels: tuple[Channel, ...] = ()

    def has_answer_to(self, kind: AttemptKind) -> bool:
        """Whether an order may count on the processor's answer to such a request."""
        return kind is AttemptKind.REFUND or (kind is AttemptKind.CHARGE) is self.charges_answered


class Move(NamedTuple):
    """Something that can happen: what, in words, and the state after it; whether it must happen sooner or later."""

    what: Words
    state: State
    must: bool


class Deed(NamedTuple):
    """A move that concerns one part of the state: what that part is afterwards, and what is told of it."""

    what: Words
    part: str
    stored: Any
    told: tuple[Message, ...] = ()
    must: bool = False


class Saga:
    """One order's saga by the rules, in this weather."""

    def __init__(self, rules: Rules, weather: Weather) -> None:
        self.rules = rules
        self.weather = weather
        self.services = Services(rules, weather.channels)
        deaf = () if weather.channels else ("notifications",)
        heard = {kind: tuple(each for each in names if each not in deaf) for kind, names in rules.subscribers.items()}
        self.post = Post(heard)
        self._found: dict[Words, list[Any]] = {}

    def begin(self) -> State:
        """The order was placed a moment ago."""
        return State(Order(OrderStatus.PENDING), owed=self.post.sent([Message(OrderCreatedEvent)], known=0))

    def moves(self, state: State) -> Iterator[Move]:
        """Whatever can happen now and changes anything. Raises Alarm where a table says that it must never be."""
        yield from self._done(state, self._once(self._acts, state.order))
        yield from self._done(state, self._once(self._charging, state.payment, state.processor))
        yield from self._arrivals(state)
        if self.weather.most_dead:
            yield from self._reminder(state)
            yield from self._deaths(state)

    def _once(self, find: Callable[..., Iterable[Any]], *about: Any) -> list[Any]:
        """What is found about a part of the state, looked for once: the same parts meet in very many states."""
        key = (find.__name__, *about)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = list(find(*about))
        return found

    def _done(self, state: State, deeds: Iterable[Deed]) -> Iterator[Move]:
        for deed in deeds:
            owed = state.owed | self.post.sent(deed.told, state.known)
            yield Move(deed.what, state._replace(**{deed.part: deed.stored, "owed": owed}), deed.must)

    # --- people and the clock

    def _acts(self, order: Order) -> Iterator[Deed]:
        for trigger in (*ACTIONS, Trigger.DEADLINE):
            reaction = self.services.move(order, trigger)
            must = trigger is Trigger.DEADLINE and bool(self.weather.most_dead)
            if reaction.stored != order:
                yield Deed((IN_WORDS[trigger],), "order", reaction.stored, reaction.told, must)

    def _reminder(self, state: State) -> Iterator[Move]:
        """An order that is not settled is announced as cancelled again."""
        if state.order.status is OrderStatus.CANCELLED and not state.order.is_settled:
            again = Message(OrderCancelledEvent, state.order.reason)
            owed = state.owed | self.post.sent([again], state.known, anew=self.rules.reminds_anew)
            if owed != state.owed:
                yield Move(("orders tells again of", again), state._replace(owed=owed), must=True)

    # --- the broker

    def _arrivals(self, state: State) -> Iterator[Move]:
        """A letter arrives: for the first time, once more, or replayed after any time."""
        for letter in self.post.among(state.owed | state.known | state.dead):
            part = STORED_BY[letter.to]
            stored = getattr(state, part)
            is_expected = letter.bit & (state.owed | state.dead)
            for reaction in self._once(self._reactions, letter, stored):
                if is_expected or reaction.stored != stored or reaction.told:
                    yield from self._arrival(state._replace(**{part: reaction.stored}), letter, reaction)

    def _reactions(self, letter: Letter, stored: object) -> Iterator[Reaction]:
        try:
            yield from getattr(self.services, letter.to)(stored, letter.message)
        except Alarm as alarm:
            raise Alarm(f"{letter.to} hears of {letter.message} and raises the alarm: {alarm}") from alarm

    def _arrival(self, state: State, letter: Letter, reaction: Reaction) -> Iterator[Move]:
        bit, known = letter.bit, state.known | letter.bit
        if not reaction.is_acknowledged:
            yield Move((letter.to, "dies over", letter.message), state, must=False)
            return
        owed = state.owed | self.post.sent(reaction.told, known)
        if bit & state.known:
            yield Move((letter.to, "hears again of", letter.message), state._replace(owed=owed), must=False)
        if bit & state.owed:
            answered = state._replace(owed=owed & ~bit, known=known)
            yield Move((letter.to, "hears of", letter.message), answered, must=True)
        if bit & state.dead:
            answered = state._replace(owed=owed, known=known, dead=state.dead & ~bit)
            yield Move((letter.to, "hears by a replay of", letter.message), answered, must=False)

    def _deaths(self, state: State) -> Iterator[Move]:
        """A handler fails for good: its letter goes to the dead letters."""
        if state.dead.bit_count() < self.weather.most_dead:
            for letter in self.post.among(state.owed):
                lost = state._replace(owed=state.owed & ~letter.bit, dead=state.dead | letter.bit)
                yield Move((letter.to, "gives up", letter.message), lost, must=False)

    # --- the worker of payments and the card processor

    def _charging(self, payment: Payment, processor: Processor) -> Iterator[Deed]:
        yield from self._requests(payment, processor)
        yield from self._processing(processor)
        for kind in sorted(processor.asked):  # the same order in every run, so that of two shortest ways it is one
            for answer in answers(processor, kind):
                reaction = self.services.answered(payment, kind, answer)
                if reaction.stored != payment or reaction.told:
                    what = (f"payments hears {answer.__name__} to its {kind}",)
                    must = self.weather.has_answer_to(kind)
                    yield Deed(what, "payment", reaction.stored, reaction.told, must)

    def _requests(self, payment: Payment, processor: Processor) -> Iterator[Deed]:
        """The worker takes up what waits for the processor."""
        for kind, waits in self.rules.waits.items():
            is_due = payment.status is waits and kind not in processor.asked
            if is_due and (kind is not AttemptKind.ABANDON or AttemptKind.CHARGE in processor.asked):
                asked = processor._replace(asked=processor.asked | {kind})
                yield Deed((f"payments asks the processor to {kind}",), "processor", asked, must=True)

    def _processing(self, processor: Processor) -> Iterator[Deed]:
        """The processor does what it was asked for, be it long ago."""
        for kind, books in BOOKS.items():
            if kind in processor.asked and processor.charge is None:
                for book in books:
                    booked = processor._replace(charge=book, charges=int(book is Charged))
                    must = self.weather.has_answer_to(kind)
                    yield Deed((f"the processor books the {kind} as {book.__name__}",), "processor", booked, must=must)
        if AttemptKind.REFUND in processor.asked and not processor.refunds:
            yield Deed(("the processor refunds",), "processor", processor._replace(refunds=1), must=True)
        if not self.rules.asks_by_key and processor.charges == 1:
            yield Deed(("the processor charges again",), "processor", processor._replace(charges=2))


def answers(processor: Processor, kind: AttemptKind) -> Iterator[type[Answer]]:
    """What a request of this kind may be answered by now, whoever hears of it how late."""
    yield Unanswered
    if kind is AttemptKind.REFUND:
        yield Refused
        if processor.refunds:
            yield Refunded
    elif processor.charge:
        yield processor.charge
