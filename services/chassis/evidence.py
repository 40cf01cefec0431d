"""How long the evidence is kept: what was published and handled for an order, once nothing about it changes any more.

The service that decides when an order is over prunes its own part on its own rule; those who only took part keep theirs
for longer, so that whoever compares the two never finds the subscriber's half missing while the publisher's is there.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, delete, exists, func, select
from sqlalchemy.orm import Session

from services.chassis.inbox import INBOX
from services.chassis.outbox import OUTBOX

KEPT: Final = timedelta(days=90)
BATCH: Final = 500


def drop_of_orders(session: Session, order_ids: Sequence[UUID]) -> None:
    """Drop the outbox and inbox rows of these orders, together."""
    for table in (OUTBOX, INBOX):
        session.execute(delete(table).where(table.c.order_id.in_(order_ids)))


def prune_orders(session: Session, over: Select[Any]) -> int:
    """Drop what is KEPT long enough of up to BATCH of the orders in ``over``, a query of their ids; of how many.

    Fewer than BATCH means that there are no more.
    """
    newer = INBOX.alias()
    is_newer = exists().where(newer.c.order_id == INBOX.c.order_id, newer.c.handled_at >= func.now() - KEPT)
    is_waiting = exists().where(OUTBOX.c.order_id == INBOX.c.order_id, OUTBOX.c.published_at.is_(None))
    old = select(INBOX.c.order_id).where(INBOX.c.handled_at < func.now() - KEPT, INBOX.c.order_id.in_(over))
    order_ids = session.scalars(old.where(~is_newer, ~is_waiting).distinct().limit(BATCH)).all()
    drop_of_orders(session, order_ids)
    return len(order_ids)


def prune_others(session: Session) -> int:
    """Drop up to BATCH published events that are about no order and KEPT long enough; how many."""
    old = select(OUTBOX.c.id).where(OUTBOX.c.order_id.is_(None), OUTBOX.c.published_at < func.now() - KEPT)
    dropped = session.execute(delete(OUTBOX).where(OUTBOX.c.id.in_(old.limit(BATCH))).returning(OUTBOX.c.id))
    return len(dropped.all())
