"""Connections to RabbitMQ that this process publishes on, each with a deadline.

Two kinds, because they promise different things. :class:`ConfirmedPublisher` sends events: persistent, mandatory, many
at once, and only what the broker has confirmed counts (one by one 1 000 messages/s, pipelined 8 000 to 12 000).
:class:`TransientPublisher` sends RPC requests and replies: worthless after the caller's deadline, so neither persistent
nor confirmed, on one channel that stays open. Both throw a connection away on any error.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socket import timeout as SocketTimeout  # noqa: N812 - py-amqp raises it
from time import monotonic
from typing import Any, Final

import eventlet
from amqp import Channel
from amqp import Connection as AmqpConnection
from amqp.exceptions import AMQPError
from eventlet.semaphore import Semaphore
from kombu.connection import Connection
from nameko.constants import AMQP_SSL_CONFIG_KEY
from nameko.extensions import SharedExtension

from services.chassis import tls
from services.chassis.blockade import Blockade, Blocked
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger

log = get_logger(__name__)

CONNECT_SECONDS: Final = 3
PUBLISH_SECONDS: Final = 4.0
"""For a whole batch; below the 5 s after which PostgreSQL ends a transaction that waits for it."""

ANSWER_SECONDS: Final = 0.5
RPC_EXCHANGE: Final = "nameko-rpc"
TICKS_PER_HEARTBEAT: Final = 4
PERSISTENT: Final = 2
TRANSIENT: Final = 1
FAILURES: Final = (AMQPError, OSError, eventlet.Timeout)
"""What talking to a broker may raise; ``eventlet.Timeout`` is no Exception and must be named."""


@dataclass(frozen=True)
class Message:
    """What is sent where; ``properties`` are AMQP's own (``message_id``, ``correlation_id``, ``expiration`` ...)."""

    exchange: str
    routing_key: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, Any] = field(default_factory=dict)
    content_type: str | None = "application/json"
    content_encoding: str | None = "utf-8"

    def prepared(self, channel: Channel, delivery_mode: int) -> Any:
        """The message as py-amqp sends it."""
        properties = {"delivery_mode": delivery_mode, **self.properties}
        return channel.prepare_message(
            self.body, None, self.content_type, self.content_encoding, dict(self.headers), properties
        )


def connect(config: Mapping[str, Any], heartbeat: int) -> AmqpConnection:
    """An open connection of our own; raises one of FAILURES within CONNECT_SECONDS."""
    settings = Connection(
        config["AMQP_URI"],
        ssl=config.get(AMQP_SSL_CONFIG_KEY),
        heartbeat=heartbeat,
        connect_timeout=CONNECT_SECONDS,
    )
    with eventlet.Timeout(CONNECT_SECONDS):
        return settings.transport.establish_connection()


def drop(connection: AmqpConnection | None) -> None:
    """Close the socket without a word to the other side, which may not be listening."""
    if connection is not None:
        with suppress(*FAILURES, AttributeError):
            tls.hasten_end(connection.sock)
        with suppress(*FAILURES, AttributeError):
            connection.collect()


def unavailable(error: BaseException) -> Unavailable:
    """What a caller is told when the broker did not take a message."""
    log.warning("broker_unavailable", error=tls.distrust(error) or type(error).__name__)
    return Unavailable("broker_unavailable", "The message broker does not answer; try again.", {"retry_after": 2})


def read_all(connection: AmqpConnection) -> None:
    """Take in what has arrived: heartbeats, alarms, or the news that the connection or channel was closed."""
    with suppress(SocketTimeout):
        while True:
            connection.drain_events(timeout=0)


class ConfirmedPublisher:
    """Publishes batches of persistent messages and waits for every confirm. One greenthread at a time.

    Delivery is at least once: after an error the fate of a message is unknown, and the caller sends it again.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._connection: AmqpConnection | None = None
        self._channel: Channel | None = None
        self._blockade = Blockade()
        self._turn = Semaphore(1)
        self._sent = 0
        self._pending: dict[int, int] = {}
        self._refused: dict[int, str] = {}
        self._unroutable: set[tuple[str, str]] = set()

    def publish(self, messages: Sequence[Message]) -> dict[int, str]:
        """Send all of them; the index and reason of each that no queue took.

        Raises Unavailable when the broker did not answer for all of them in time.
        """
        with self._turn:
            try:
                with eventlet.Timeout(PUBLISH_SECONDS):
                    return self._publish(messages)
            except Blocked as error:
                raise unavailable(error) from error
            except FAILURES as error:
                self.close()
                raise unavailable(error) from error
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Forget the connection; the next publish opens a new one."""
        connection, self._connection, self._channel = self._connection, None, None
        drop(connection)

    def _publish(self, messages: Sequence[Message]) -> dict[int, str]:
        channel = self._open()
        self._blockade.check()
        self._pending, self._refused, self._unroutable = {}, {}, set()
        for index, message in enumerate(messages):
            self._sent += 1
            self._pending[self._sent] = index
            channel._basic_publish(  # noqa: SLF001 - basic_publish would wait for each confirm
                message.prepared(channel, PERSISTENT), message.exchange, message.routing_key, mandatory=True
            )
        while self._pending:
            channel.connection.drain_events(timeout=PUBLISH_SECONDS)
            self._blockade.check()
        if self._refused:  # a channel that has met a queue without a leader may be refused for ever after
            self.close()
        unroutable = {
            index: "no queue is bound for it"
            for index, message in enumerate(messages)
            if (message.exchange, message.routing_key) in self._unroutable
        }
        return self._refused | unroutable

    def _open(self) -> Channel:
        """The open channel, after reading what the broker said meanwhile (that it closed it, perhaps)."""
        if self._channel is not None and self._connection is not None:
            try:
                read_all(self._connection)
            except FAILURES:
                self.close()
        if self._channel is None or not self._channel.is_open:
            self.close()
            self._connection = self._blockade.watch(connect(self._config, heartbeat=0))
            channel = self._connection.channel()
            channel.confirm_select()
            channel.events["basic_ack"].add(self._on_ack)
            channel.events["basic_nack"].add(self._on_nack)
            channel.events["basic_return"].add(self._on_return)
            self._channel, self._sent = channel, 0
        return self._channel

    def _settle(self, tag: int, multiple: bool) -> list[int]:  # noqa: FBT001 - py-amqp calls it so
        tags = [each for each in self._pending if each <= tag] if multiple else [tag]
        return [self._pending.pop(each) for each in tags if each in self._pending]

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - likewise
        self._settle(tag, multiple)

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - likewise
        self._refused |= dict.fromkeys(self._settle(tag, multiple), "the broker refused it")

    def _on_return(self, _error: Exception, exchange: str, routing_key: str, _message: object) -> None:
        self._unroutable.add((exchange, routing_key))


class TransientPublisher(SharedExtension):
    """Publishes what is worthless after its caller's deadline, on one channel per process, without waiting.

    Before each message it reads what the broker sent meanwhile, so a connection that was closed is noticed before
    anything is written to it, and nothing is ever sent twice.
    """

    def __init__(self) -> None:
        self._connection: AmqpConnection | None = None
        self._channel: Channel | None = None
        self._blockade = Blockade()
        self._turn = Semaphore(1)
        self._stopped = False
        self._asked_at = float("-inf")
        self._has_answered = False

    def start(self) -> None:
        """Keep the connection alive while nobody publishes."""
        self.container.spawn_managed_thread(self._keep_alive, identifier="transient publisher")

    def stop(self) -> None:
        """Close the connection."""
        self._stopped = True
        self._throw_away()

    kill = stop

    def publish(self, message: Message, seconds: float) -> None:
        """Hand the message to the broker; raises Unavailable when that does not succeed in time."""
        try:
            with eventlet.Timeout(seconds), self._turn, self._thrown_away_on_error():
                channel = self._open()
                self._blockade.check()
                channel._basic_publish(  # noqa: SLF001 - without confirms this is basic_publish
                    message.prepared(channel, TRANSIENT), message.exchange, message.routing_key
                )
        except (*FAILURES, Blocked) as error:
            raise unavailable(error) from error

    def check_ready(self) -> str | None:
        """What is missing, or None: the broker takes messages, as far as anybody has tried."""
        return "the broker takes no messages: it lacks memory or disk" if self._blockade.stands else None

    def broker_answers(self) -> bool:
        """Whether the broker answers a question at once; what it did a moment ago still counts.

        A request that asks several services in vain asks this once for each, and may not wait as often.
        """
        if monotonic() - self._asked_at > ANSWER_SECONDS:
            self._has_answered = self._ask()
            self._asked_at = monotonic()
        return self._has_answered

    def _ask(self) -> bool:
        """Whether the broker answers; one that does not is given up.

        So is the channel of one that does: RabbitMQ 3.10 drops whatever comes on a channel for a queue that had no
        leader when they first met, and without confirms it does so in silence.
        """
        try:
            with eventlet.Timeout(ANSWER_SECONDS), self._turn, self._thrown_away_on_error():
                channel = self._open()
                self._blockade.check()
                channel.exchange_declare(RPC_EXCHANGE, "topic", passive=True)
                channel.close()
                self._channel = None
        except (*FAILURES, Blocked):
            return False
        return True

    @contextmanager
    def _thrown_away_on_error(self) -> Iterator[None]:
        try:
            yield
        except Blocked:
            raise
        except BaseException:
            self._throw_away()
            raise

    def _throw_away(self) -> None:
        self._blockade = Blockade()
        connection, self._connection, self._channel = self._connection, None, None
        drop(connection)

    def _open(self) -> Channel:
        if self._connection is not None:
            try:
                read_all(self._connection)
            except FAILURES:
                self._throw_away()
        if self._connection is None:
            opened = connect(self.container.config, self.container.config["HEARTBEAT"])
            self._connection = self._blockade.watch(opened)
        if self._channel is None:
            self._channel = self._connection.channel()
        return self._channel

    def _keep_alive(self) -> None:
        pause = self.container.config["HEARTBEAT"] / TICKS_PER_HEARTBEAT
        while not self._stopped:
            eventlet.sleep(pause)
            with suppress(*FAILURES), self._turn, self._thrown_away_on_error():
                if self._connection is not None:
                    read_all(self._connection)
                if self._connection is not None:  # it may have been stopped meanwhile
                    self._connection.heartbeat_tick()


def seconds_left(deadline: float) -> float:
    """The seconds until a ``monotonic()`` deadline, never below zero."""
    return max(0.0, deadline - monotonic())
