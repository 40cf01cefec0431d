"""The copy of the denied access tokens in Redis, which spares the gateway a question per request.

The truth is in userservice_db. The copy counts only while the marker stands that it is complete; the marker is renewed,
every few seconds, by writing the whole copy again. A denial that Redis did not take brings the marker down. One that
was never told, because a process died between its commit and this, is made up for at the next renewal.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from time import monotonic
from uuid import uuid4

import eventlet
from redis import Redis

from services.chassis.auth import DENIED_COMPLETE, denied_key
from services.chassis.cache import Copies
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger
from services.users.models import Denial
from services.users.repository import KEPT_AFTER_EXPIRY

MARKER_SECONDS = 60
"""How long the copy counts without being renewed. Long enough for a restart of this service: while it is down nobody
denies a token, so the copy stays complete."""

BATCH = 500
RETRACT_PAUSE_SECONDS = 0.5

log = get_logger(__name__)


def tell(copies: Copies, denials: Iterable[Denial], now: datetime) -> None:
    """Add these to the copy. Never fails: a copy that missed some counts no more, until the next renewal."""
    try:
        _write(copies, denials, now)
    except Unavailable:
        log.warning("denials_not_told")
        if not retract(copies):
            eventlet.spawn_n(_retract_later, copies)


def retract(copies: Copies) -> bool:
    """Whether the marker is gone. A Redis that is full takes nothing new, but it still forgets."""
    try:
        with copies.required() as redis:
            redis.delete(DENIED_COMPLETE)
    except Unavailable:
        return False
    return True


def _retract_later(copies: Copies) -> None:
    """Retract as soon as Redis answers, unless the marker has run out by then."""
    runs_out = monotonic() + MARKER_SECONDS
    while monotonic() < runs_out and not retract(copies):
        eventlet.sleep(RETRACT_PAUSE_SECONDS)


def renew(copies: Copies, denials: Iterable[Denial], now: datetime) -> bool:
    """Whether Redis took the whole copy and then the marker. Otherwise the next renewal tries again.

    A Redis that loses its memory half-way also loses the promise made first, and without promise there is no marker.
    Each marker has another value, so that whoever lost sight of Redis can wait for a newer one.
    """
    promise = f"{DENIED_COMPLETE}:{uuid4()}"
    try:
        with copies.required() as redis:
            redis.set(promise, promise, ex=MARKER_SECONDS)
        _write(copies, denials, now)
        with copies.required() as redis:
            redis.rename(promise, DENIED_COMPLETE)
    except Unavailable:
        log.warning("denials_not_renewed")
        return False
    return True


def _write(copies: Copies, denials: Iterable[Denial], now: datetime) -> None:
    for batch in _batches(denials):
        with copies.required() as redis:
            _write_batch(redis, batch, now)


def _write_batch(redis: Redis, batch: list[Denial], now: datetime) -> None:
    with redis.pipeline(transaction=False) as pipeline:
        for denial in batch:
            seconds = int((denial.expires_at + KEPT_AFTER_EXPIRY - now).total_seconds())
            pipeline.set(denied_key(denial.jti), b"1", ex=max(1, seconds))
        pipeline.execute()


def _batches(denials: Iterable[Denial]) -> Iterator[list[Denial]]:
    rest = iter(denials)
    while batch := list(islice(rest, BATCH)):
        yield batch
