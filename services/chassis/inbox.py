"""The inbox: which event each handler has already answered.

The row is inserted in the transaction of the handler's own change, so a second delivery finds it and does nothing, and
two deliveries at once wait for each other (idempotent consumer,
https://microservices.io/patterns/communication-style/idempotent-consumer.html).
"""

from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, Uuid, func, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from services.chassis.database import MESSAGES
from services.chassis.outbox import Event

INBOX: Final = Table(
    "inbox",
    MESSAGES,
    Column("event_id", Uuid, primary_key=True),
    Column("handler", Text, primary_key=True),
    Column("event_type", Text, nullable=False),
    Column("order_id", Uuid),
    Column("causation_id", Uuid),
    Column("attempt", Integer, nullable=False),
    Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.clock_timestamp()),
    Column("outcome", Text, nullable=False, server_default="done"),
    Index("inbox_order", "order_id"),
    Index("inbox_age", "handled_at", postgresql_using="brin"),
)


def record(session: Session, handler: str, event: Event, attempt: int) -> datetime | None:
    """When the transaction began, if this is the first time; nobody else will be told so once it commits."""
    row = {
        "event_id": event.event_id,
        "handler": handler,
        "event_type": event.event_type,
        "order_id": getattr(event, "order_id", None),
        "causation_id": getattr(event, "causation_id", None),
        "attempt": attempt,
    }
    query = insert(INBOX).values(row).on_conflict_do_nothing().returning(func.now())
    began: datetime | None = session.scalar(query)
    return began


def note_outcome(session: Session, handler: str, event_id: UUID, outcome: str) -> None:
    """Say in a word what handling the event came to; the journey of an order shows it."""
    mine = (INBOX.c.event_id == event_id) & (INBOX.c.handler == handler)
    session.execute(update(INBOX).where(mine).values(outcome=outcome))
