"""The relay: carries what waits in the outbox to the broker, and wakes at every commit.

One greenthread per process takes a batch under row locks, publishes it with confirms and marks what the broker took.
Killed at any point it loses nothing: rows it had not marked are taken again, and subscribers know an event they have
seen. While the broker is away it tries again at growing distances; the rows stay where they are.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

import eventlet
from eventlet.event import Event as Signal
from nameko.extensions import SharedExtension
from sqlalchemy import Engine, Row

from services.chassis import outbox
from services.chassis.broker import ConfirmedPublisher, Message
from services.chassis.consumer import QueueConsumer
from services.chassis.database import is_passing
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger
from services.chassis.metrics import OUTBOX_LAG, OUTBOX_PUBLISHED, OUTBOX_REFUSED, OUTBOX_WAITING
from services.chassis.tracing import TRACEPARENT

log = get_logger(__name__)

SWEEP_SECONDS: Final = 1.0
"""How long a row of another instance that died may lie; commits of this process wake the relay at once."""

BATCH_SECONDS: Final = 12.0
FIRST_BACKOFF_SECONDS: Final = 0.2
LONGEST_BACKOFF_SECONDS: Final = 5.0


class OutboxRelay(SharedExtension):
    """Publishes this service's outbox on its exchange ``<service>.events``."""

    queue_consumer = QueueConsumer()

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._wake = Signal()
        self._stopping = False
        self._backoff = 0.0

    def attach(self, engine: Engine) -> None:
        """Say whose outbox it is; without it the relay does nothing."""
        self._engine = engine
        self.queue_consumer.required_exchanges.add(f"{self.container.service_name}.events")

    def start(self) -> None:
        """Begin to carry."""
        if self._engine is not None:
            self._publisher = ConfirmedPublisher(self.container.config)
            self._thread = self.container.spawn_managed_thread(self._run, identifier="outbox relay")

    def wake(self) -> None:
        """Look into the outbox now: something was committed."""
        if not self._wake.ready():
            self._wake.send()

    def stop(self) -> None:
        """Carry what the last workers committed, if the broker takes it, and end."""
        if self._engine is not None and not self._stopping:
            self._stopping = True
            self.wake()
            with eventlet.Timeout(BATCH_SECONDS, False):  # noqa: FBT003 - eventlet's "end the block silently"
                self._thread.wait()
            self._publisher.close()

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            self._wake = Signal()
            carried = self._carry_safely()
            if stopping and carried < outbox.BATCH:
                return
            if carried < outbox.BATCH:
                with eventlet.Timeout(self._backoff or SWEEP_SECONDS, False):  # noqa: FBT003 - likewise
                    self._pause()

    def _pause(self) -> None:
        """Wait to be woken; after a failure, only for the time to pass, or to be stopped."""
        self._wake.wait()
        while self._backoff and not self._stopping:
            eventlet.sleep(FIRST_BACKOFF_SECONDS)

    def _carry_safely(self) -> int:
        try:
            with eventlet.Timeout(BATCH_SECONDS):
                carried = self.carry()
        except (Exception, eventlet.Timeout) as error:  # the relay must outlive whatever a batch meets
            self._backoff = min(LONGEST_BACKOFF_SECONDS, (self._backoff or FIRST_BACKOFF_SECONDS / 2) * 2)
            expected = isinstance(error, Unavailable | eventlet.Timeout) or is_passing(error)
            log.warning("outbox_not_carried", error=type(error).__name__, exc_info=not expected)
            return 0
        self._backoff = 0.0
        return carried

    def carry(self) -> int:
        """Publish one batch; how many rows it took up."""
        engine = self._engine
        if engine is None:
            return 0
        with engine.begin() as connection:
            rows = outbox.take(connection)
            if self._backoff:  # it may fail again, and how long it has been failing is what people want to know
                measure(*outbox.waiting(connection))
            if rows:
                self._publish(connection, rows)
            if len(rows) < outbox.BATCH:
                measure(*outbox.waiting(connection))
            else:  # counting all that is behind a full batch would slow it down
                measure(len(rows), float(rows[0].age))
        return len(rows)

    def _publish(self, connection: Any, rows: Sequence[Row[Any]]) -> None:
        refused = self._publisher.publish([self._message(row) for row in rows])
        outbox.mark_published(connection, [row.id for index, row in enumerate(rows) if index not in refused])
        for reason, indexes in groupby(sorted(refused, key=lambda index: refused[index]), key=lambda i: refused[i]):
            outbox.mark_refused(connection, [rows[index].id for index in indexes], reason)
        for index, row in enumerate(rows):
            if index in refused:
                OUTBOX_REFUSED.labels(row.event_type).inc()
                log.error("event_refused", event_id=str(row.event_id), event_type=row.event_type, reason=refused[index])
            else:
                OUTBOX_PUBLISHED.labels(row.event_type).inc()

    def _message(self, row: Row[Any]) -> Message:
        headers = {TRACEPARENT: row.traceparent} if row.traceparent else {}
        return Message(
            exchange=f"{self.container.service_name}.events",
            routing_key=row.event_type,
            body=row.payload.encode(),
            headers=headers,
            properties={"message_id": str(row.event_id), "correlation_id": row.correlation_id, "type": row.event_type},
        )


def measure(waiting: int, oldest: float) -> None:
    """Tell how many rows wait at least, and the age of the oldest in seconds."""
    OUTBOX_WAITING.set(waiting)
    OUTBOX_LAG.set(oldest)
