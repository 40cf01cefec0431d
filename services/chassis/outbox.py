"""The outbox: events that wait in the database for the broker to take them.

A state change and its events are written in one transaction; a relay publishes afterwards what is still unpublished
(transactional outbox, https://microservices.io/patterns/data/transactional-outbox.html). Rows are taken with
``FOR UPDATE SKIP LOCKED``, so that any number of relays may run; a row gets its ``published_at`` only when the broker
has confirmed it and stays as evidence. A row that cannot be routed backs off alone and blocks none.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Identity,
    Index,
    Integer,
    Row,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from services.chassis import wire
from services.chassis.database import MESSAGES
from services.chassis.tracing import Trace

BATCH: Final = 100
LONGEST_BACKOFF_SECONDS: Final = 300

OUTBOX: Final = Table(
    "outbox",
    MESSAGES,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("order_id", Uuid),
    Column("correlation_id", Text, nullable=False),
    Column("causation_id", Uuid),
    Column("traceparent", Text),
    Column("payload", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("published_at", DateTime(timezone=True)),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("last_error", Text),
    Index("outbox_waiting", "id", postgresql_where=text("published_at IS NULL")),
    Index("outbox_order", "order_id"),
    Index("outbox_age", "published_at", postgresql_using="brin"),
)


class Event(Protocol):
    """What the chassis must know of an event; the classes themselves live in ``events.py``."""

    @property
    def event_id(self) -> UUID:
        """Unique to what happened, not to the message."""

    @property
    def event_type(self) -> str:
        """The class name, and the routing key."""


def add(session: Session, events: Sequence[Event], trace: Trace) -> None:
    """Write the events into the outbox of the session's transaction, in this order.

    Raises ValueError for an event that breaks its own types, so that a bug fails here and not at every subscriber.
    """
    rows = [
        {
            "event_id": event.event_id,
            "event_type": event.event_type,
            "order_id": getattr(event, "order_id", None),
            "correlation_id": trace.correlation_id,
            "causation_id": trace.causation_id,
            "traceparent": trace.traceparent,
            "payload": wire.encode_checked(event).decode(),
        }
        for event in events
    ]
    session.execute(insert(OUTBOX), rows)


def _age_of(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    """Seconds since then, by the database's clock."""
    return func.extract("epoch", func.clock_timestamp() - moment)


_TAKE: Final = (
    select(OUTBOX.c.id, OUTBOX.c.event_id, OUTBOX.c.event_type, OUTBOX.c.payload, OUTBOX.c.correlation_id)
    .add_columns(OUTBOX.c.traceparent, _age_of(OUTBOX.c.created_at).label("age"))
    .where(OUTBOX.c.published_at.is_(None), OUTBOX.c.next_attempt_at <= func.now())
    .order_by(OUTBOX.c.id)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)

_MARK: Final = update(OUTBOX).where(OUTBOX.c.id.in_(bindparam("ids", expanding=True)))
_PUBLISHED: Final = _MARK.values(published_at=func.clock_timestamp(), attempts=OUTBOX.c.attempts + 1, last_error=None)
_BACKOFF: Final = func.least(func.power(2, func.least(OUTBOX.c.attempts, 16)), LONGEST_BACKOFF_SECONDS)
_REFUSED: Final = _MARK.values(
    attempts=OUTBOX.c.attempts + 1,
    last_error=bindparam("reason"),
    next_attempt_at=func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, _BACKOFF),
)


def take(connection: Connection) -> Sequence[Row[Any]]:
    """The oldest rows that are due, locked until the transaction ends; no two relays get the same."""
    return connection.execute(_TAKE).all()


def mark_published(connection: Connection, ids: Sequence[int]) -> None:
    """Note that the broker has taken these rows."""
    if ids:
        connection.execute(_PUBLISHED, {"ids": ids})


def mark_refused(connection: Connection, ids: Sequence[int], reason: str) -> None:
    """Note that the broker could not take these rows; each comes again after twice the time it waited before."""
    if ids:
        connection.execute(_REFUSED, {"ids": ids, "reason": reason})


def waiting(connection: Connection) -> tuple[int, float]:
    """How many rows wait for the broker, and the age of the oldest in seconds."""
    query = select(func.count(), func.coalesce(_age_of(func.min(OUTBOX.c.created_at)), 0)).where(
        OUTBOX.c.published_at.is_(None)
    )
    count, oldest = connection.execute(query).one()
    return count, float(oldest)
