"""What Redis remembers: who is sending for an order right now, and what was sent.

``sending:<order>`` is a lease and says nothing but that; ``sent:<order>:<kind>`` is written after the message was
delivered, so a process that dies between the two leaves no message untold.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import eventlet

from services.chassis.cache import Copies
from services.chassis.errors import Unavailable
from services.notifications.models import Kind
from services.notifications.schemas import Sent, decode_sent, encode_sent

LEASE_SECONDS: Final = 45
"""Longer than sending all messages of one kind may take."""

KEPT: Final = timedelta(days=60)

LEASE_PAUSES: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0)

RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class SentRepository:
    """The records in Redis. Every method raises Unavailable without it: then messages wait."""

    def __init__(self, copies: Copies) -> None:
        self.copies = copies

    def was_sent(self, order_id: UUID, *kinds: Kind) -> bool:
        """Whether a message of one of these kinds was sent."""
        with self.copies.required() as redis:
            return bool(redis.exists(*(_key(order_id, kind) for kind in kinds)))

    def add(self, order_id: UUID, sent: Sent) -> None:
        """Remember that it was sent; the first record stays."""
        with self.copies.required() as redis:
            redis.set(_key(order_id, sent.kind), encode_sent(sent), ex=KEPT, nx=True)

    def list_sent(self, order_id: UUID) -> list[Sent]:
        """All that was sent about the order, oldest first."""
        with self.copies.required() as redis:
            records = redis.mget([_key(order_id, kind) for kind in Kind])
        return sorted((decode_sent(record) for record in records if record), key=lambda sent: sent.at)

    @contextmanager
    def lease(self, order_id: UUID) -> Iterator[None]:
        """While the block runs nobody else sends for this order. Raises Unavailable when somebody does already."""
        key, holder = f"sending:{order_id}", str(uuid4())
        self._take(key, holder)
        try:
            yield
        finally:
            with suppress(Unavailable), self.copies.required() as redis:
                redis.eval(RELEASE, 1, key, holder)

    def _take(self, key: str, holder: str) -> None:
        # The receipt and the confirmation of an order come at nearly the same moment: the second waits a little.
        for pause in LEASE_PAUSES:
            with self.copies.required() as redis:
                if redis.set(key, holder, ex=LEASE_SECONDS, nx=True):
                    return
            eventlet.sleep(pause)
        raise Unavailable("order_busy", "Another message about this order is being sent.", {"retry_after": 1})


def _key(order_id: UUID, kind: Kind) -> str:
    return f"sent:{order_id}:{kind}"
