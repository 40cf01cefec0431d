"""What a service's own inbox and outbox tell of one order: the events that reached it and those it sent."""

from typing import Any
from uuid import UUID

from marshmallow import fields
from sqlalchemy import case, select
from sqlalchemy.orm import Session

from services.chassis.inbox import INBOX
from services.chassis.outbox import OUTBOX
from services.chassis.schema import Instant, Schema

_REACHED = select(
    INBOX.c.handled_at.label("at"),
    INBOX.c.event_type.label("event"),
    INBOX.c.event_id,
    INBOX.c.causation_id,
    INBOX.c.attempt,
    INBOX.c.outcome,
    INBOX.c.handler.label("note"),
)
_SENT = select(
    OUTBOX.c.created_at.label("at"),
    OUTBOX.c.event_type.label("event"),
    OUTBOX.c.event_id,
    OUTBOX.c.causation_id,
    OUTBOX.c.attempts.label("attempt"),
    case((OUTBOX.c.published_at.is_(None), "waiting"), else_="published").label("outcome"),
    OUTBOX.c.last_error.label("note"),
)


class Step(Schema):
    """One thing that happened to an order in one service."""

    at = Instant()
    service = fields.String()
    event = fields.String()
    event_id = fields.UUID(allow_none=True, dump_default=None)
    causation_id = fields.UUID(allow_none=True, dump_default=None)
    attempt = fields.Integer(allow_none=True, dump_default=None)
    outcome = fields.String()
    note = fields.String()


STEP = Step()


def list_steps(session: Session, service: str, order_id: UUID) -> list[dict[str, Any]]:
    """The order's steps in this service, oldest first, each as it is shown to a client."""
    rows = [
        *session.execute(_REACHED.where(INBOX.c.order_id == order_id)).mappings(),
        *session.execute(_SENT.where(OUTBOX.c.order_id == order_id)).mappings(),
    ]
    steps = [dict(row) | {"service": service, "note": row["note"] or ""} for row in rows]
    return STEP.show_all(sorted(steps, key=lambda step: step["at"]))
