"""Where a message goes that could not be handled: to a retry queue for later, or to the dead letters for good.

Both are publishes that the broker must confirm before the original is acknowledged, so a message is never between two
chairs. A retry goes to the fanout exchange ``<service>.retry.<ms>`` under its queue's name as routing key; when its
time is over the broker moves it on to ``<service>.redeliver``, which is bound only to this service's queues. A dead
letter keeps its body and headers, and says why, where and after how many attempts it was given up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import eventlet
from amqp.serialization import dumps
from nameko.extensions import SharedExtension

from services.chassis.broker import ConfirmedPublisher, Message
from services.chassis.consumer import QueueConsumer, RawMessage
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger
from services.chassis.metrics import DEAD_LETTERS, RETRIES

log = get_logger(__name__)

Kind = Literal["passing", "malformed", "alarm", "lasting"]
"""How a failure is met: what is passing is tried for as long as it lasts, everything else is given up some time."""

ATTEMPT: Final = "x-oms-attempt"
FAILURES: Final = "x-oms-failures"
LONGEST_REASON: Final = 500
MOST_HEADER_BYTES: Final = 64 * 1024
PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_OF_THE_BROKER: Final = ("x-death", "x-first-death", "x-last-death", "x-delivery-count", "x-acquired-count")


def _portable(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that can be sent again, beside our marks and within one frame."""
    kept = {}
    room = MOST_HEADER_BYTES
    for name, value in headers.items():
        size = _size(name, value)
        if name not in _OF_THE_BROKER and size <= room:
            kept[name] = value
            room -= size
    return kept


def _size(name: str, value: object) -> int:
    try:
        return len(dumps("F", [{name: value}]))
    except Exception:  # noqa: BLE001 - what can be received cannot always be sent
        return MOST_HEADER_BYTES + 1


@dataclass(frozen=True)
class Failure:
    """What went wrong with a message: which handler of which queue, for the how-manieth time, and why."""

    queue: str
    handler: str
    attempt: int
    failures: int
    kind: Kind
    reason: str


def count(headers: Mapping[str, Any], name: str, otherwise: int) -> int:
    """A counter out of headers that anybody may have written."""
    value = headers.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**6 else otherwise


class Redelivery(SharedExtension):
    """Moves this service's messages to its retry queues and its dead letters."""

    queue_consumer = QueueConsumer()

    def setup(self) -> None:
        """Read how long retries wait."""
        self.delays: tuple[int, ...] = tuple(self.container.config["RETRY_DELAYS_MS"])
        self.most_failures: int = self.container.config["MAX_ATTEMPTS"]
        service = self.container.service_name
        self.queue_consumer.required_exchanges |= {f"{service}.dead-letters", f"{service}.redeliver"}
        self.queue_consumer.required_exchanges |= {f"{service}.retry.{delay}" for delay in self.delays}
        self._publisher = ConfirmedPublisher(self.container.config)

    def stop(self) -> None:
        """Close the connection."""
        self._publisher.close()

    kill = stop

    def later(self, message: RawMessage, failure: Failure) -> None:
        """Deliver the message again after a while, longer each time."""
        delay = self.delays[min(failure.attempt, len(self.delays)) - 1]
        RETRIES.labels(failure.handler, failure.kind).inc()
        log.warning("event_put_off", handler=failure.handler, attempt=failure.attempt, delay_ms=delay, why=failure.kind)
        marks = {ATTEMPT: failure.attempt + 1, FAILURES: failure.failures}
        exchange = f"{self.container.service_name}.retry.{delay}"
        self._move(message, exchange, failure.queue, marks)

    def bury(self, message: RawMessage, failure: Failure) -> None:
        """Put the message with its reason into the dead letters."""
        service = self.container.service_name
        DEAD_LETTERS.labels(failure.handler, failure.kind).inc()
        log.error(
            "dead_letter",
            handler=failure.handler,
            message_id=str(message.properties.get("message_id"))[:64],
            attempts=failure.attempt,
            reason=failure.reason[:LONGEST_REASON],
        )
        origin = message.delivery_info or {}
        marks = {
            ATTEMPT: failure.attempt,
            FAILURES: failure.failures,
            "x-oms-kind": failure.kind,
            "x-oms-reason": failure.reason[:LONGEST_REASON],
            "x-oms-service": service,
            "x-oms-handler": failure.handler,
            "x-oms-queue": failure.queue,
            "x-oms-failed-at": datetime.now(UTC).isoformat(),
            "x-oms-exchange": str(origin.get("exchange", "")),
            "x-oms-routing-key": str(origin.get("routing_key", "")),
        }
        self._move(message, f"{service}.dead-letters", failure.queue, marks)

    def _move(self, message: RawMessage, exchange: str, routing_key: str, marks: Mapping[str, Any]) -> None:
        """Publish until the broker has it, then acknowledge; without a connection the broker still has the original."""
        for pause in (*PAUSES, *([PAUSES[-1]] * 1000)):
            if not message.channel.connection:
                break
            try:
                refused = self._publisher.publish([self._copy(message, exchange, routing_key, marks)])
            except Unavailable:
                refused = {0: "the broker does not answer"}
            if not refused:
                break
            log.error("message_not_moved", exchange=exchange, reason=refused[0])
            eventlet.sleep(pause)
        else:
            self.queue_consumer.requeue_message(message)
            return
        self.queue_consumer.ack_message(message)

    def _copy(self, message: RawMessage, exchange: str, routing_key: str, marks: Mapping[str, Any]) -> Message:
        names = ("message_id", "correlation_id", "type", "timestamp", "app_id", "reply_to")
        properties = {name: message.properties[name] for name in names if name in message.properties}
        body = message.body.encode("utf-8", "surrogatepass") if isinstance(message.body, str) else bytes(message.body)
        return Message(
            exchange=exchange,
            routing_key=routing_key,
            body=body,
            headers=_portable(message.headers) | dict(marks),
            properties=properties,
            content_type=message.content_type,
            content_encoding=message.content_encoding,
        )
