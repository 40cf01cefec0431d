"""Dead letters: what a handler gave up for good, looked at, delivered again or thrown away.

They lie in the queue ``<service>.dead-letters``. Whoever looks takes them without acknowledging and puts them back in
the same order, so looking changes nothing; while somebody looks, somebody else may find some missing. A replay is
published to ``<service>.redeliver`` under its queue's name, confirmed, and only then acknowledged: a crash between the
two leaves it delivered and here, which is safe, because a handler answers an event once. What is thrown away moves to
``<service>.discarded``, where it is kept for a while as evidence that somebody decided so.

:class:`DeadLetterQueue` does it over any connection; ``./oms dead-letters`` uses it with the operator's. A service that
is decorated :func:`with_dead_letters` offers the same over RPC, to staff.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import eventlet
from amqp import Channel
from amqp import Connection as AmqpConnection
from amqp.basic_message import Message
from amqp.exceptions import AMQPError
from amqp.exceptions import NotFound as NoSuchQueue

from services.chassis.broker import FAILURES, connect, drop, unavailable
from services.chassis.errors import Conflict, NotFound, ServiceError
from services.chassis.letter import DeadLetter
from services.chassis.logs import get_logger
from services.chassis.provider import Provider
from services.chassis.rpc import rpc
from services.chassis.schema import Schema, Text

log = get_logger(__name__)

MOST: Final = 1000
"""So many are looked at in one go."""

ID_LENGTH: Final = 16
PAUSES: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
"""Between questions whether the broker has put back what was looked at."""

SECONDS: Final = 4.0
"""How long a call may take over them: less than an RPC's deadline."""

Service = TypeVar("Service", bound=type)


@dataclass(frozen=True)
class Wanted:
    """Which letters: those that match everything that is said; ``id`` may be the beginning of one."""

    id: str = ""
    event: str = ""
    order_id: str = ""

    def matches(self, letter: DeadLetter) -> bool:
        """Whether this is one of them."""
        return (
            letter.id.startswith(self.id)
            and self.event in ("", letter.event)
            and self.order_id in ("", letter.order_id or "")
        )


class DeadLetterQueue:
    """The dead letters of one service, over a connection that whoever made it closes."""

    def __init__(self, connection: AmqpConnection, service: str) -> None:
        self._connection = connection
        self.service = service
        self.queue = f"{service}.dead-letters"

    def count(self) -> int:
        """How many there are."""
        with self._channel() as channel:
            return self._count(channel, self.queue)

    def list_letters(self, wanted: Wanted, most: int = MOST) -> list[DeadLetter]:
        """The first of those that are wanted, oldest first."""
        with self._channel() as channel:
            return [letter for _, letter in self._taken(channel, self.queue, most) if wanted.matches(letter)]

    def list_discarded(self, most: int = MOST) -> list[DeadLetter]:
        """The first of those that were thrown away, oldest first."""
        with self._channel() as channel:
            return [letter for _, letter in self._taken(channel, f"{self.service}.discarded", most)]

    def replay(self, wanted: Wanted, most: int = MOST, tell: Callable[[DeadLetter, bool], None] | None = None) -> int:
        """Deliver those that are wanted once more; how many. ``tell`` hears of each whether a queue took it.

        One that no queue takes, because its handler is gone, stays here. One that fails again comes back and is not
        met twice.
        """
        done = 0
        with self._channel() as channel:
            for tag, letter in self._taken(channel, self.queue, most):
                if wanted.matches(letter):
                    taken = self._moved(channel, tag, letter.again(), "redeliver", letter.queue)
                    done += taken
                    if tell:
                        tell(letter, taken)
        return done

    def discard(self, wanted: Wanted, by: str, reason: str, most: int = MOST) -> list[DeadLetter]:
        """Throw those away that are wanted, for the reason that ``by`` has; what they were."""
        gone = []
        with self._channel() as channel:
            for tag, letter in self._taken(channel, self.queue, most):
                if wanted.matches(letter) and self._moved(channel, tag, letter.discarded(by, reason), "discarded", ""):
                    gone.append(letter)
        return gone

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        channel = self._connection.channel()
        channel.auto_decode = False
        channel.confirm_select()
        channel.events["basic_return"].add(self._note_return)
        self._held: dict[int, str] = {}
        try:
            yield channel
            for tag in self._held:  # one by one, and in the order they came, which is the order they go back in
                channel.basic_reject(tag, requeue=True)
            self._await_return(channel)
        finally:
            with suppress(AMQPError, OSError):
                channel.close()

    def _await_return(self, channel: Channel) -> None:
        """Wait, not for long, until what was only looked at lies in its queue again, where the next look finds it."""
        for queue, count in Counter(self._held.values()).items():
            for pause in PAUSES:
                if self._count(channel, queue) >= count:
                    break
                eventlet.sleep(pause)

    def _taken(self, channel: Channel, queue: str, most: int) -> Iterator[tuple[int, DeadLetter]]:
        """The letters that lie there now, each with its tag; what is not moved goes back in the end."""
        for _ in range(min(most, self._count(channel, queue))):
            message = channel.basic_get(queue)
            if message is None:
                return
            self._held[message.delivery_tag] = queue
            yield message.delivery_tag, DeadLetter.read(self.service, message)

    def _moved(self, channel: Channel, tag: int, message: Message, exchange: str, routing_key: str) -> bool:
        """Whether a queue has taken the message, which is then gone from here."""
        self._returned = False
        channel.basic_publish_confirm(message, f"{self.service}.{exchange}", routing_key, mandatory=True)
        if not self._returned:
            channel.basic_ack(tag)
            del self._held[tag]
        return not self._returned

    def _note_return(self, *_: object) -> None:
        self._returned = True

    def _count(self, channel: Channel, queue: str) -> int:
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except NoSuchQueue:
            return 0


# --- over RPC


class Query(Schema):
    """Which letters a caller wants to see."""

    event = Text(1, 100, load_default="")
    order_id = Text(1, 64, load_default="")


class Discarding(Schema):
    """Why a letter is thrown away."""

    reason = Text(3, 500, required=True)


QUERY: Final = Query()
DISCARDING: Final = Discarding()


class DeadLetters(Provider["DeadLetters"]):
    """Injects the service's own dead letters; the topology lets it read and redeliver these and no others."""

    def get_dependency(self, worker_ctx: Any) -> "DeadLetters":
        """The same for every worker: each call connects for itself, for a person is waiting and no event."""
        return self

    @contextmanager
    def open(self) -> Iterator[DeadLetterQueue]:
        """The queue, for the block. Raises Unavailable when the broker does not answer in time."""
        connection = None
        try:
            with eventlet.Timeout(SECONDS):
                connection = connect(self.container.config, heartbeat=0)
                yield DeadLetterQueue(connection, self.container.service_name)
        except FAILURES as error:
            raise unavailable(error) from error
        finally:
            drop(connection)


@rpc(expected_exceptions=ServiceError)
def list_dead_letters(self: Any, query: Mapping[str, str]) -> dict[str, Any]:
    """``{"items", "count"}``: the oldest of the wanted letters, and how many letters there are; for staff."""
    self.caller.require("staff")
    wanted = Wanted(**QUERY.read(query))
    with self.dead_letters.open() as letters:
        items = [letter.summary() for letter in letters.list_letters(wanted)]
        return {"items": items, "count": letters.count()}


@rpc(expected_exceptions=ServiceError)
def show_dead_letter(self: Any, letter_id: str) -> dict[str, Any]:
    """The letter with its history and its payload without secrets; for staff."""
    self.caller.require("staff")
    wanted = _one(letter_id)
    with self.dead_letters.open() as letters:
        found: list[DeadLetter] = letters.list_letters(wanted)
    if not found:
        raise _unknown()
    return found[0].view()


@rpc(expected_exceptions=ServiceError)
def replay_dead_letter(self: Any, letter_id: str) -> dict[str, Any]:
    """``{"replayed"}``: the letter's id, once it is on its way to its handler again; for staff.

    Raises Conflict when there is no such handler any more.
    """
    self.caller.require("staff")
    wanted = _one(letter_id)
    met: list[bool] = []
    with self.dead_letters.open() as letters:
        letters.replay(wanted, tell=lambda _, taken: met.append(taken))
    if not met:
        raise _unknown()
    if not all(met):
        raise Conflict("not_replayable", "Nobody handles this message any more.")
    log.warning("dead_letter_replayed", letter=letter_id, by=str(self.caller.user_id))
    return {"replayed": letter_id}


@rpc(expected_exceptions=ServiceError)
def discard_dead_letter(self: Any, letter_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """``{"discarded"}``: the letter's id, thrown away for the reason in ``body``, which the log keeps; for admins."""
    self.caller.require("admin")
    wanted, reason = _one(letter_id), DISCARDING.read(body)["reason"]
    with self.dead_letters.open() as letters:
        gone = letters.discard(wanted, str(self.caller.user_id), reason)
    if not gone:
        raise _unknown()
    for letter in gone:
        log.warning("dead_letter_discarded", letter=letter.summary(), why=reason, by=str(self.caller.user_id))
    return {"discarded": letter_id}


def _one(letter_id: object) -> Wanted:
    if not isinstance(letter_id, str) or len(letter_id) != ID_LENGTH:
        raise _unknown()
    return Wanted(id=letter_id)


def _unknown() -> NotFound:
    return NotFound("dead_letter_not_found", "There is no such dead letter.")


METHODS: Final = (list_dead_letters, show_dead_letter, replay_dead_letter, discard_dead_letter)


def with_dead_letters(service: Service) -> Service:
    """Let staff see to the service's dead letters over RPC; it needs ``caller = Caller()``."""
    service.dead_letters = DeadLetters()  # type: ignore[attr-defined] # Nameko reads it off the class
    for method in METHODS:
        setattr(service, method.__name__, method)
    return service
