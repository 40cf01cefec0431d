"""Two small services that do nothing but show what the chassis does: one tells, the other listens.

Run by ``nameko run`` in the chassis' integration tests, on a database that has an outbox, an inbox and ``seen``.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import eventlet
from sqlalchemy import Text, Uuid, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from events import Event
from services.chassis.errors import (
    Alarm,
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from services.chassis.http import Request, Response, http, reply
from services.chassis.messaging import event_handler
from services.chassis.probes import Probes
from services.chassis.rpc import rpc
from services.chassis.rpc_proxy import RpcProxy
from services.chassis.work import UnitOfWork, Work

KINDS = {kind.__name__: kind for kind in (NotFound, Conflict, InvalidInput, Unauthenticated, Forbidden, Unavailable)}
SEEN = "CREATE TABLE seen (id bigint GENERATED ALWAYS AS IDENTITY, event_id uuid NOT NULL, what text NOT NULL)"


@dataclass(frozen=True, kw_only=True)
class ThingHappenedEvent(Event):
    """Something happened; ``what`` tells the listener how to behave."""

    publisher: ClassVar[str] = "teller"

    what: str


class Base(DeclarativeBase):
    """The tables of both services."""


class Seen(Base):
    """What the listener has seen, once for each time."""

    __tablename__ = "seen"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    event_id: Mapped[UUID] = mapped_column(Uuid)
    what: Mapped[str] = mapped_column(Text)


class TellerService:
    """Publishes events and answers calls in every way a method can."""

    name = "teller"

    begin = UnitOfWork(Base)
    listener_rpc = RpcProxy("listener", "relay")
    probes = Probes()

    @rpc(expected_exceptions=ServiceError)
    def tell(self, *what: str) -> list[str]:
        """Publish one event for each word; their ids."""
        with self.begin() as work:
            events = [ThingHappenedEvent(occurred_at=work.now, what=each) for each in what]
            work.publish(*events)
            if "rollback" in what:
                raise Conflict("rolled_back", "Nothing of it happened.")
        return [str(event.event_id) for event in events]

    @rpc(expected_exceptions=ServiceError)
    def answer(self, how: str) -> str:
        """Answer, refuse, break or take too long."""
        if how.startswith("raise "):
            raise KINDS[how.removeprefix("raise ")]("some_code", "No.", {"price": Decimal("1.50"), "retry_after": 7})
        if how == "break":
            raise RuntimeError("a secret that must not leave")
        if how.startswith("sleep "):
            eventlet.sleep(float(how.removeprefix("sleep ")))
        if how.startswith("query "):
            with self.begin() as work:
                work.session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": float(how.removeprefix("query "))})
        return how


class ListenerService:
    """Handles each event the way the event says."""

    name = "listener"

    begin = UnitOfWork(Base)
    teller_rpc = RpcProxy("teller", "answer", "tell")
    probes = Probes()

    @event_handler("teller", ThingHappenedEvent)
    def on_thing_happened(self, event: ThingHappenedEvent, work: Work) -> None:
        """Write down that it was seen, and then fail as told."""
        work.session.add(Seen(event_id=event.event_id, what=event.what))
        work.session.flush()
        behave(event.what)

    @rpc(expected_exceptions=ServiceError)
    def relay(self, method: str, *args: str) -> object:
        """What the teller answers, through this service."""
        return getattr(self.teller_rpc, method)(*args)

    @http("GET", "/relay/<how>")
    def get_relay(self, request: Request, how: str) -> Response:
        """What the teller answers, for a client who does not come through the broker."""
        return reply(200, self.teller_rpc.answer(how))


def behave(what: str) -> None:
    """Fail or dawdle as told."""
    if what == "alarm":
        raise Alarm("this must never happen")
    if what == "unknown":
        raise NotFound("unknown", "Never heard of it.")
    if what == "bug":
        raise RuntimeError("the floor is missing")
    if what.startswith("until ") and not Path(what.removeprefix("until ")).exists():
        raise Unavailable("away", "Something is away.")
    if what.startswith("sleep "):
        eventlet.sleep(float(what.removeprefix("sleep ")))
