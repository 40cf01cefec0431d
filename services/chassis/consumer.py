"""The one connection on which a service consumes: its event queues, its RPC queue, its replies.

Against Nameko's own: it stays open on SIGTERM until every delivered message has been acknowledged (else the broker
delivers work again that was done); it hands over raw messages, so nothing is decoded, decompressed or logged before its
handler looks at it; it declares nothing but the reply queue, and waits, not ready, until the topology exists.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import eventlet
from amqp import method_framing
from amqp.basic_message import Message as AmqpMessage
from amqp.exceptions import NotFound
from eventlet.event import Event as Signal
from eventlet.semaphore import Semaphore
from kombu.entity import Exchange
from kombu.exceptions import KombuError
from kombu.message import Message as KombuMessage
from nameko.extensions import ProviderCollector
from nameko.messaging import QueueConsumer as StockQueueConsumer

from services.chassis import tls
from services.chassis.broker import CONNECT_SECONDS, FAILURES, TICKS_PER_HEARTBEAT, drop
from services.chassis.logs import get_logger

log = get_logger(__name__)

RECONNECT_SECONDS: Final = 1.0
LONGEST_GLANCE_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
"""How long the broker may take over each question while consuming begins: a connection may fall silent then, too."""

CLOSE_SECONDS: Final = 1.0
CANCEL_SECONDS: Final = 3.0
STOP_SECONDS: Final = 3.0
UNREADABLE: Final = "x-oms-unreadable"
"""The header that stands for properties which could not be read."""


class IncomingMessage(AmqpMessage):
    """A delivery whose properties may be nonsense: invalid UTF-8, unknown types, tables without end.

    py-amqp reads properties while it reads frames, so its error would end the connection, and with it the process,
    again and again for as long as the message lies in its queue.
    """

    def _load_properties(self, class_id: int, buffer: Any, offset: int) -> int:
        try:
            return int(super()._load_properties(class_id, buffer, offset))
        except Exception as error:  # noqa: BLE001 - struct.error, ValueError, RecursionError ...
            self.properties = {"application_headers": {UNREADABLE: type(error).__name__}}
            return offset


method_framing.Message = IncomingMessage


class RawMessage(KombuMessage):
    """A delivery as it came; a ``compression`` header is only a header, never an order to unpack."""

    def __init__(self, delivered: Any, channel: Any) -> None:
        properties = delivered.properties
        super().__init__(
            body=delivered.body,
            channel=channel,
            delivery_tag=delivered.delivery_tag,
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
            delivery_info=delivered.delivery_info,
            properties=properties,
        )
        self.headers = properties.get("application_headers") or {}


class QueueConsumer(StockQueueConsumer):
    """Hands each delivery to its provider's ``handle_delivery(message)``, which must never raise."""

    def __init__(self) -> None:
        super().__init__()
        self._pending_remove_providers: dict[Any, Signal] = {}
        self.required_exchanges: set[str] = set()
        self.missing: list[str] = []
        self._in_flight: set[RawMessage] = set()
        self._leaving: set[Any] = set()
        self._consuming = False
        self._stopping = False
        self._turn = Semaphore(1)
        self._connection: Any = None
        self._distrust = ""

    def get_consumers(self, consumer_cls: Any, channel: Any) -> list[Any]:
        """Consumers for every provider that stays, each with its own prefetch count."""
        self._in_flight.clear()  # the broker has taken back what the last connection had not acknowledged
        self._check_topology(channel.connection)
        channel.message_to_python = partial(RawMessage, channel=channel)
        for provider in self._providers - self._leaving:
            with eventlet.Timeout(ANSWER_SECONDS):
                self._consumers[provider] = self._begin(consumer_cls, provider)
        return list(self._consumers.values())

    def _begin(self, consumer_cls: Any, provider: Any) -> Any:
        declares = getattr(provider, "declares_its_queue", False)
        try:
            consumer = consumer_cls(
                queues=[provider.queue], on_message=partial(self._deliver, provider), auto_declare=declares
            )
        except NotFound:  # it exists on a node of the broker that is away
            provider.choose_queue()
            raise
        consumer.qos(prefetch_count=getattr(provider, "prefetch_count", self.prefetch_count))
        # at once: a prefetch count is that of the consumers that begin after it
        consumer.consume(no_ack=getattr(provider, "needs_no_ack", None))
        return consumer

    def _deliver(self, provider: Any, message: RawMessage) -> None:
        if getattr(provider, "handles_inline", False):
            provider.handle_delivery(message)
            return
        self._in_flight.add(message)
        name = f"{type(provider).__name__}.handle_delivery"
        self.container.spawn_managed_thread(partial(provider.handle_delivery, message), identifier=name)

    def ack_message(self, message: RawMessage) -> None:
        """Acknowledge, unless the connection it came on is gone: then the broker delivers it again."""
        try:
            if message.channel.connection:
                with suppress(*FAILURES), self._turn:
                    message.ack()
        finally:
            self._in_flight.discard(message)

    def requeue_message(self, message: RawMessage) -> None:
        """Give the message back to its queue."""
        try:
            if message.channel.connection:
                with suppress(*FAILURES), self._turn:
                    message.requeue()
        finally:
            self._in_flight.discard(message)

    def run(self, _tokens: int = 1, **kwargs: Any) -> None:
        """Consume until stopped; a lost connection is made anew after a second."""
        while not self.should_stop:
            try:
                for _ in self.consume(limit=None, safety_interval=self._glance_seconds, **kwargs):
                    pass
            except (*FAILURES, KombuError) as error:
                log.warning("broker_connection_lost", error=self._distrust or type(error.__cause__ or error).__name__)
                eventlet.sleep(RECONNECT_SECONDS)

    @property
    def _glance_seconds(self) -> float:
        """How long to wait for a message before looking whether anything else is to be done.

        py-amqp begins to wait anew with each heartbeat of the broker, which come twice in their time: whoever waits
        longer than from one to the next never finds out that its own is due.
        """
        return min(LONGEST_GLANCE_SECONDS, float(self.container.config["HEARTBEAT"]) / TICKS_PER_HEARTBEAT)

    @contextmanager
    def establish_connection(self) -> Iterator[Any]:
        """One attempt with a deadline; the loop around it comes again after a second."""
        connection = self.create_connection()
        try:
            self._connect(connection)
            with self._connected(connection):
                yield connection
        except BaseException:
            drop(connection._connection)  # noqa: SLF001 - kombu would ask the broker to close it, and wait for ever
            raise
        finally:
            with eventlet.Timeout(CLOSE_SECONDS, False):  # noqa: FBT003 - eventlet's "end the block silently"
                connection.release()

    def _connect(self, connection: Any) -> None:
        try:
            with eventlet.Timeout(CONNECT_SECONDS):
                connection.connect_timeout = CONNECT_SECONDS
                connection.ensure_connection(max_retries=0)
                connection.default_channel  # noqa: B018 - opens it
            self._distrust = ""
        except (*FAILURES, KombuError) as error:
            self._distrust = tls.distrust(error)
            self._forget_those_leaving()
            raise ConnectionError("no connection to the broker") from error

    @contextmanager
    def _connected(self, connection: Any) -> Iterator[None]:
        try:
            self._connection = connection
            yield
        finally:
            self._connection = None
            self._consuming = False
            self._consumers.clear()
            self._forget_those_leaving()
            for provider in self._providers:
                getattr(provider, "on_disconnected", bool)()

    def _check_topology(self, connection: Any) -> None:
        """Raise ConnectionError, to try again in a second, until everything this service needs exists."""
        queues = [each.queue for each in self._providers if not getattr(each, "declares_its_queue", False)]
        exchanges = [Exchange(name, passive=True) for name in sorted(self.required_exchanges)]
        missing = [f"queue {queue.name}" for queue in queues if not self._exists(connection, queue)]
        missing += [f"exchange {each.name}" for each in exchanges if not self._exists(connection, each)]
        self.missing = missing  # as a whole: a probe may look at any moment
        if missing:
            log.warning("topology_missing", missing=missing)
            raise ConnectionError("the topology is not complete")

    @staticmethod
    def _exists(connection: Any, entity: Any) -> bool:
        with eventlet.Timeout(ANSWER_SECONDS):
            channel = connection.channel()
            try:
                if isinstance(entity, Exchange):
                    channel.exchange_declare(entity.name, entity.type, passive=True)
                else:
                    channel.queue_declare(entity.name, passive=True)
            except NotFound:
                return False
            channel.close()
            return True

    def on_consume_ready(self, connection: Any, channel: Any, consumers: Any, **kwargs: Any) -> None:
        """Consuming has begun, for the first time or again."""
        self._consuming = True
        super().on_consume_ready(connection, channel, consumers, **kwargs)

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """Nothing: `establish_connection` has said it."""

    def check_ready(self) -> str | None:
        """What is missing, or None: connected and consuming."""
        if self.missing:
            return f"missing in the broker: {', '.join(self.missing)}; run ./oms topology --apply"
        if self._consuming or not self._providers:
            return None
        return tls.because("the broker does not answer", self._distrust)

    def unregister_provider(self, provider: Any) -> None:
        """Stop consuming for this provider; what was delivered is still finished."""
        if provider not in self._providers:
            return
        removed = Signal()
        self._pending_remove_providers[provider] = removed
        self._leaving.add(provider)
        if not self._consuming:
            self._forget_those_leaving()
        with eventlet.Timeout(CANCEL_SECONDS, False):  # noqa: FBT003 - eventlet's "end the block silently"
            removed.wait()
        ProviderCollector.unregister_provider(self, provider)

    def _cancel_consumers_if_requested(self) -> None:
        for provider, removed in self._take_leaving():
            consumer = self._consumers.pop(provider, None)
            try:
                if consumer is not None:
                    consumer.cancel()
            finally:
                removed.send()

    def _take_leaving(self) -> list[tuple[Any, Signal]]:
        leaving = list(self._pending_remove_providers.items())
        self._pending_remove_providers.clear()
        return leaving

    def _forget_those_leaving(self) -> None:
        """Without a connection nothing is consumed, so nothing needs to be cancelled."""
        for _, removed in self._take_leaving():
            removed.send()
        if not self._providers - self._leaving:
            self.should_stop = True

    def on_iteration(self) -> None:
        """Keep the connection alive, and end once nothing is consumed and nothing delivered is unfinished."""
        self._beat()
        self._cancel_consumers_if_requested()
        if not self._consumers and not self._in_flight:
            self.should_stop = True

    def _beat(self) -> None:
        """Send a heartbeat when one is due. kombu looks only when nothing arrives, and a busy gateway has no such time.

        What it consumes it need not acknowledge, so without this it would say nothing at all, and be cut off.
        """
        if self._connection is not None:
            with self._turn:
                self._connection.heartbeat_check()

    def stop(self) -> None:
        """Wait for the last provider and the last acknowledgement, for a bounded time."""
        if self._gt is None:
            return
        if not self._consumers_ready.ready():
            self._consumers_ready.send(None)
            self.should_stop = True
        self._in_flight.clear()  # workers have ended: what is left belongs to those that were killed
        with eventlet.Timeout(STOP_SECONDS, False):  # noqa: FBT003 - likewise
            self.wait_for_providers()
            self._gt.wait()
        self.should_stop = True
        self.kill()

    def kill(self) -> None:
        """End at once."""
        self.should_stop = True
        if self._gt is not None and self._gt is not eventlet.getcurrent():
            self._gt.kill()
