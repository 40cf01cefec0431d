"""Event handlers that lose nothing: ``@event_handler("orders", OrderCreatedEvent)`` in Nameko's own words.

The handler's method gets the event as its dataclass and an open unit of work in which the inbox has already said that
this is the first time. What it raises decides what becomes of the message:

- nothing: committed, then acknowledged;
- ``Unavailable`` and every other passing failure: delivered again with growing delays for as long as that lasts;
- ``Alarm`` and malformed messages: to the dead letters at once;
- anything else: again a bounded number of times, then to the dead letters.
"""

import re
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Final, TypeVar
from uuid import UUID, uuid5

from eventlet.semaphore import Semaphore
from kombu.entity import Queue
from nameko.events import EventHandler as StockEventHandler
from nameko.exceptions import ContainerBeingKilled
from nameko.extensions import SharedExtension, register_entrypoint
from redis.exceptions import RedisError

from services.chassis import wire
from services.chassis.config import read, whole
from services.chassis.consumer import UNREADABLE, QueueConsumer, RawMessage
from services.chassis.database import is_passing
from services.chassis.errors import Alarm, MalformedEvent, Unavailable
from services.chassis.logs import get_logger
from services.chassis.metrics import HANDLER_SECONDS, timed
from services.chassis.outbox import Event
from services.chassis.redelivery import ATTEMPT, FAILURES, Failure, Kind, Redelivery, count
from services.chassis.tracing import CORRELATION, TRACEPARENT, sane_correlation_id, sane_traceparent
from services.chassis.work import Delivery

log = get_logger(__name__)

Method = TypeVar("Method", bound=Callable[..., None])

LARGEST_BODY: Final = 1024 * 1024
BY_HAND: Final = UUID("6f6d7300-0000-5000-8000-000000000002")
"""Namespace of the ids of events that were dispatched without one."""

_QUOTED: Final = re.compile(r"'.*'", re.DOTALL)

SHARE_OF_WORKERS: Final = 5
"""Each event queue may fill this part of the workers, so that none starves the others or RPC."""


def event_handler(source: str, kind: type[Event], *, once: bool = True) -> Callable[[Method], Method]:
    """Let a method answer ``kind`` events of ``source``: ``(self, event, work)``, once per event id.

    ``once=False`` is for a service without a database: ``(self, event)``, and the method itself must see to it that a
    repeat changes nothing.
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def answer(service: Any, delivery: Delivery[Any]) -> None:
            with timed(HANDLER_SECONDS, delivery.handler):
                if not once:
                    method(service, delivery.event)
                    return
                with service.begin.once(delivery) as work:
                    if work is not None:
                        method(service, delivery.event, work)

        register_entrypoint(answer, EventHandler(source, kind, once=once))
        return answer  # type: ignore[return-value] # Nameko calls it with a delivery, tests its __wrapped__

    return decorate


def read_event(message: RawMessage, kind: type[Event]) -> Event:
    """The event a message carries; raises MalformedEvent, with no word of the content, when it carries none.

    What an event dispatched by hand may lack is filled in; its id then follows from type and content, so that the same
    one dispatched again is a duplicate.
    """
    if UNREADABLE in message.headers:
        raise MalformedEvent("the headers cannot be read")
    if len(message.body) > LARGEST_BODY:
        raise MalformedEvent(f"the body is larger than {LARGEST_BODY} bytes")
    if message.content_type not in ("application/json", None):
        raise MalformedEvent("the content type is not application/json")
    try:
        payload = wire.decode(message.body)
    except (ValueError, RecursionError):
        raise MalformedEvent("the body is not JSON") from None
    if not isinstance(payload, dict):
        raise MalformedEvent("the body is not a JSON object")
    try:
        return wire.build(_completed(payload, kind.__name__), kind)
    except (ValueError, TypeError, RecursionError) as error:
        complaint = _QUOTED.sub("'...'", str(error))
        raise MalformedEvent(f"not a valid {kind.__name__}: {complaint}") from None


def _completed(payload: dict[str, Any], event_type: str) -> dict[str, Any]:
    if payload.get("event_id") is None:
        payload["event_id"] = str(uuid5(BY_HAND, event_type + wire.encode(dict(sorted(payload.items()))).decode()))
    if payload.get("occurred_at") is None:
        payload["occurred_at"] = wire.now_text()
    return payload


class Turns(SharedExtension):
    """As many events of this process are in work at once as half of its database connections; the others wait here.

    At work without a connection each would keep a worker from calls, give up after some seconds, be put off by a
    message and come again: the more there was to do, the less would be done.
    """

    def setup(self) -> None:
        """None is taken yet."""
        self._free = Semaphore(max(1, read(self.container.config, "DB_POOL_SIZE", whole) // 2))

    def take(self) -> None:
        """Wait for a turn, first come, first served."""
        self._free.acquire()

    def give(self) -> None:
        """Let the next one have it."""
        self._free.release()


class EventHandler(StockEventHandler):
    """Nameko's event handler on a queue that the topology declared, with retries, dead letters and typed events."""

    queue_consumer = QueueConsumer()
    redelivery = Redelivery()
    turns = Turns()
    logs_its_errors = True

    def __init__(self, source: str, kind: type[Event], *, once: bool = True) -> None:
        super().__init__(source, kind.__name__)
        self.kind = kind
        self.takes_turns = once

    def setup(self) -> None:
        """Register for the queue ``evt-<source>-<event>--<service>.<method>``, which must exist already."""
        super().setup()
        self.queue: Queue = Queue(self.queue.name, no_declare=True)
        self.handler = f"{self.container.service_name}.{self.method_name}"
        self.prefetch_count = max(1, self.container.max_workers // SHARE_OF_WORKERS)

    def handle_delivery(self, message: RawMessage) -> None:
        """Answer the message in a worker; never raises, for that would end the process."""
        try:
            event = read_event(message, self.kind)
        except Exception as error:  # noqa: BLE001 - whatever a message can provoke must not be met again at every restart
            self.redelivery.bury(message, self._failure(message, error))
            return
        traceparent = sane_traceparent(message.headers.get(TRACEPARENT))
        delivery = Delivery(event, self.handler, count(message.headers, ATTEMPT, 1), traceparent)
        correlation = sane_correlation_id(getattr(event, "correlation_id", None))
        context = {CORRELATION: correlation, TRACEPARENT: traceparent}
        context = {key: value for key, value in context.items() if value}
        if self.takes_turns:
            self.turns.take()
        if self.container.stopping:
            self._give_back(message)
            return
        try:
            self.container.spawn_worker(
                self, (delivery,), {}, context_data=context, handle_result=partial(self._end, message)
            )
        except ContainerBeingKilled:
            self._give_back(message)

    def _give_back(self, message: RawMessage) -> None:
        self.queue_consumer.requeue_message(message)
        if self.takes_turns:
            self.turns.give()

    def _end(self, message: RawMessage, _worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        try:
            self._settle(message, exc_info)
        finally:
            if self.takes_turns:
                self.turns.give()
        return result, exc_info

    def _settle(self, message: RawMessage, exc_info: Any) -> None:
        if exc_info is None:
            self.queue_consumer.ack_message(message)
            return
        failure = self._failure(message, exc_info[1])
        if failure.kind == "lasting":
            log.error("handler_failed", handler=self.handler, attempt=failure.attempt, exc_info=exc_info)
        if failure.kind == "passing" or (
            failure.kind == "lasting" and failure.failures < self.redelivery.most_failures
        ):
            self.redelivery.later(message, failure)
        else:
            self.redelivery.bury(message, failure)

    def _failure(self, message: RawMessage, error: BaseException) -> Failure:
        kind = classify(error)
        return Failure(
            queue=self.queue.name,
            handler=self.handler,
            attempt=count(message.headers, ATTEMPT, 1),
            failures=count(message.headers, FAILURES, 0) + (kind != "passing"),
            kind=kind,
            reason=f"{type(error).__name__}: {error}",
        )


def classify(error: BaseException) -> Kind:
    """How a failure is met."""
    if isinstance(error, Unavailable | RedisError | OSError) or is_passing(error):
        return "passing"
    if isinstance(error, MalformedEvent):
        return "malformed"
    return "alarm" if isinstance(error, Alarm) else "lasting"
