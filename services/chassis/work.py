"""One unit of work: a session, the events it causes and, for an event handler, the proof that it happened once.

``with self.begin() as work:`` opens a transaction; leaving the block writes the published events into the outbox,
commits and wakes the relay; an error rolls all of it back. A database that is away or too slow surfaces as
``Unavailable``. The block has a deadline, so that a database which accepts and never answers cannot hold a worker.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar, cast

import eventlet
from eventlet.support.greenlets import GreenletExit
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

from services.chassis import inbox, outbox
from services.chassis.database import PASSING, Database, distrust, is_passing
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger
from services.chassis.metrics import INBOX_DUPLICATES, WORK_FAILURES
from services.chassis.provider import Provider
from services.chassis.relay import OutboxRelay
from services.chassis.tracing import Trace, sane_correlation_id

log = get_logger(__name__)

WORK_SECONDS: Final = 4.5
"""How long a unit of work may take: less than an RPC's deadline, so that the caller learns why."""

SomeEvent = TypeVar("SomeEvent", bound=outbox.Event)


@dataclass(frozen=True)
class Delivery(Generic[SomeEvent]):
    """One delivery of an event to one handler; ``attempt`` counts from 1."""

    event: SomeEvent
    handler: str
    attempt: int
    traceparent: str | None = None


class Work:
    """What happens together or not at all."""

    def __init__(
        self, session: Session, trace: Trace, delivery: Delivery[Any] | None = None, began: datetime | None = None
    ) -> None:
        self.session = session
        self.trace = trace
        self._began = began
        self._delivery = delivery
        self._events: list[outbox.Event] = []
        self._afterwards: list[Callable[[], object]] = []

    @property
    def now(self) -> datetime:
        """When it began, aware UTC, the same however often asked: by the database's clock, for it is everybody's."""
        if self._began is None:
            self._began = self.session.execute(select(func.now())).scalar_one()
        return self._began.astimezone(UTC)

    def publish(self, *events: outbox.Event) -> None:
        """Let these events leave with the commit, marked with the request and the event that caused them."""
        origin = {"correlation_id": self.trace.correlation_id, "causation_id": self.trace.causation_id}
        self._events += [cast("outbox.Event", replace(cast("Any", event), **origin)) for event in events]

    def after_commit(self, action: Callable[[], object]) -> None:
        """Do this once the commit has succeeded: invalidate a cache, wake a worker."""
        self._afterwards.append(action)

    def note(self, outcome: str) -> None:
        """Say in a word what handling the event came to, for the order's journey."""
        if self._delivery is not None:
            inbox.note_outcome(self.session, self._delivery.handler, self._delivery.event.event_id, outcome)

    def commit(self) -> bool:
        """Write the events and commit; whether there were any."""
        if self._events:
            self.session.flush()
            outbox.add(self.session, self._events, self.trace)
        self.session.commit()
        return bool(self._events)

    def finish(self) -> None:
        """Do what was to be done after the commit."""
        for action in self._afterwards:
            action()


class Begin:
    """Opens units of work on behalf of one worker."""

    def __init__(self, sessions: sessionmaker[Session], relay: OutboxRelay, trace: Trace) -> None:
        self._sessions = sessions
        self._relay = relay
        self._trace = trace

    @contextmanager
    def __call__(self) -> Iterator[Work]:
        """A unit of work that commits when the block ends well. Raises Unavailable when the database is away."""
        with self._open() as session:
            work = Work(session, self._trace)
            yield work
            self._close(work)

    @contextmanager
    def once(self, delivery: Delivery[Any]) -> Iterator[Work | None]:
        """A unit of work for this delivery, or None when the handler has answered the event before."""
        event = delivery.event
        with self._open() as session:
            began = inbox.record(session, delivery.handler, event, delivery.attempt)
            if began is None:
                INBOX_DUPLICATES.labels(delivery.handler).inc()
                yield None
                return
            correlation = sane_correlation_id(getattr(event, "correlation_id", None)) or self._trace.correlation_id
            work = Work(session, Trace(correlation, delivery.traceparent, event.event_id), delivery, began)
            yield work
            self._close(work)

    def _close(self, work: Work) -> None:
        if work.commit():
            self._relay.wake()
        work.finish()

    @contextmanager
    def _open(self) -> Iterator[Session]:
        session = self._sessions()
        deadline = eventlet.Timeout(WORK_SECONDS)
        try:
            with _closing(session):
                yield session
        except eventlet.Timeout as error:
            if error is not deadline:
                raise
            raise _away("deadline") from None
        except (*PASSING, DBAPIError) as error:
            if is_passing(error):
                log.warning("database_unavailable", error=distrust(error) or type(error.__cause__ or error).__name__)
                raise _away(type(error).__name__) from error
            raise
        finally:
            deadline.cancel()


@contextmanager
def _closing(session: Session) -> Iterator[None]:
    """Close the session in the end, which rolls back what was not committed and waits for the database to say so."""
    try:
        try:
            yield
        except Exception:
            session.close()
            raise
        session.close()
    except (eventlet.Timeout, GreenletExit):
        session.invalidate()  # the connection is in the middle of an answer: nobody may use it again
        raise


def _away(reason: str) -> Unavailable:
    WORK_FAILURES.labels(reason).inc()
    return Unavailable("database_unavailable", "The database does not answer; try again.", {"retry_after": 2})


class UnitOfWork(Provider[Begin], Database):
    """Injects :class:`Begin`. ``publishes=False`` for a service whose database has neither outbox nor inbox."""

    relay = OutboxRelay()

    def __init__(self, base: type[DeclarativeBase], *, publishes: bool = True) -> None:
        super().__init__(base)
        self.publishes = publishes

    def setup(self) -> None:
        """Make the engine and hand it to the relay."""
        super().setup()
        if self.publishes:
            self.relay.attach(self.engine)

    def get_dependency(self, worker_ctx: Any) -> Begin:
        """What opens units of work for this worker."""
        return Begin(self.Session, self.relay, Trace.of(worker_ctx.data))

    def worker_teardown(self, worker_ctx: Any) -> None:
        """Nothing: each unit of work closes its own session."""
