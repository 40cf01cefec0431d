"""A broker for one process: what each service's outbox holds becomes deliveries to whoever subscribes to it.

It promises as little as the real one does: a message comes at least once, in any order, after any time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Engine

from services.chassis import outbox, wire
from services.chassis.topology import Subscription

MOST_FAILURES: Final = 5
"""As MAX_ATTEMPTS in config.yaml: then a lasting failure goes to the dead letters."""


@dataclass(eq=False)
class Message:
    """One event on its way to one handler; ``by_hand`` when no service has published it."""

    subscription: Subscription
    event_id: UUID
    order_id: UUID | None
    body: str
    attempt: int = 1
    failures: int = 0
    by_hand: bool = False

    @property
    def handler(self) -> str:
        """Who is to answer it."""
        return f"{self.subscription.service}.{self.subscription.method}"

    def __repr__(self) -> str:
        return f"{self.subscription.event} {self.event_id} to {self.handler}"


class Post:
    """Where every message is: waiting, lost on the way, or given up. ``delivered`` have come at least once."""

    def __init__(self, subscriptions: Iterable[Subscription]) -> None:
        self.subscriptions = list(subscriptions)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.queue: list[Message] = []
        self.lost: list[Message] = []
        self.dead: list[Message] = []
        self.delivered: list[Message] = []

    def collect(self, service: str, engine: Engine) -> None:
        """Publish what waits in the outbox, as the relay does."""
        with engine.begin() as connection:
            rows = outbox.take(connection)
            for row in rows:
                self.publish(service, row)
            outbox.mark_published(connection, [row.id for row in rows])
        assert len(rows) < outbox.BATCH

    def publish(self, service: str, row: Any) -> None:
        """A copy for every subscriber."""
        for each in self.subscriptions:
            if (each.source, each.event) == (service, row.event_type):
                order_id = wire.decode(row.payload).get("order_id")
                self.queue.append(Message(each, row.event_id, order_id and UUID(order_id), row.payload))

    def repeat(self, message: Message) -> None:
        """Bring the same event once more, as after a lost acknowledgement."""
        self.queue.append(replace(message, attempt=message.attempt + 1))

    def bury(self, message: Message) -> None:
        """Give it up."""
        self.dead.append(message)

    def replay(self, message: Message) -> None:
        """Send a dead letter again, its counters anew."""
        self.dead.remove(message)
        self.queue.append(replace(message, attempt=1, failures=0))

    @property
    def troubled(self) -> Sequence[UUID | None]:
        """The orders about which an event was given up."""
        return [message.order_id for message in self.dead if not message.by_hand]
