"""Every point at which a process may be stopped, read from the services' code: a new handler is in it at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR

import events
from cli.services import service_classes
from services.chassis.http import HttpEntrypoint
from services.chassis.timer import Timer
from services.chassis.topology import Wiring, read_wiring
from services.chassis.work import UnitOfWork
from services.chassis.worker import Worker
from services.payments.transitions import AttemptKind
from tests.faults.stops import Point, Signal, Wish

ORDERS_ROUTES: Final = "/api/order"
READS: Final = ("GET", "HEAD")
NEVER_WRITE: Final = ("users.renew_denials",)
"""Timers that only read their database, and are stopped in doing so."""

IN_A_TRANSACTION: Final = (Point.DELIVERED, Point.BEFORE_COMMIT, Point.AFTER_COMMIT, Point.AFTER_ACK)
OF_A_MESSAGE: Final = (
    Point.DELIVERED,
    Point.MESSAGE_CLAIMED,
    Point.MESSAGE_SENT,
    Point.MESSAGE_RECORDED,
    Point.AFTER_ACK,
)
OF_THE_OUTBOX: Final = (Point.CLAIMED, Point.PUBLISHED, Point.CONFIRMED, Point.MID_BATCH)
OF_THE_PROCESSOR: Final = (Point.BEFORE_PROCESSOR, Point.AFTER_PROCESSOR)
OF_A_CALL: Final = (Point.BEFORE_RPC, Point.RPC_SENT)
OF_A_TIMER: Final = (Point.TIMER_BEFORE_COMMIT, Point.TIMER_AFTER_COMMIT)


@dataclass(frozen=True)
class Place:
    """One point in one service; ``cause`` is what must happen for it to be passed, the key of a story."""

    service: str
    subject: str
    cause: str
    point: Point


@dataclass(frozen=True)
class Case:
    """One stop at one place; frozen for ``seconds``, or until another instance has done the work."""

    place: Place
    signal: Signal
    seconds: float = 0.0

    @property
    def id(self) -> str:
        """The name of the case: service, subject, event, point, signal."""
        subject = self.place.subject.removeprefix(f"{self.place.service}.")
        parts = [self.place.service, subject, self.place.cause, self.place.point, self.signal]
        named = "-".join(dict.fromkeys(parts)).replace(", ", "_").replace(" ", "_")
        return f"{named}_{self.seconds:.0f}_s" if self.seconds else named

    @property
    def wish(self) -> Wish:
        """What the process is told."""
        return Wish(self.place.point, self.place.subject, self.signal, idle=self.place.cause in NEVER_WRITE)


def every_case() -> list[Case]:
    """The whole table."""
    return [Case(place, signal) for signal in Signal for place in every_place(service_classes())]


def every_place(services: Iterable[type]) -> list[Place]:
    """Every point that these services can be stopped at."""
    wirings = {service: read_wiring(service) for service in services}
    routes = {route for service in wirings for route in _routes(service)}
    found = [place for service, wiring in wirings.items() for place in _places(service, wiring, routes)]
    return list(dict.fromkeys(found))


def _places(service: type, wiring: Wiring, routes: set[str]) -> Iterator[Place]:
    for passages in (_of_events, _of_calls, _of_entrypoints):
        for subject, cause, points in passages(service, wiring, routes):
            yield from (Place(wiring.name, subject, cause, point) for point in points)


Passages = Iterator[tuple[str, str, tuple[Point, ...]]]
"""Subject, cause and the points that are passed."""


def _of_events(_service: type, wiring: Wiring, _routes: set[str]) -> Passages:
    for each in wiring.subscriptions:
        yield f"{wiring.name}.{each.method}", each.event, IN_A_TRANSACTION if wiring.publishes else OF_A_MESSAGE
    for kind in events.ALL:
        if kind.publisher == wiring.name:
            yield kind.__name__, kind.__name__, OF_THE_OUTBOX


def _of_calls(service: type, wiring: Wiring, routes: set[str]) -> Passages:
    for method in wiring.methods:
        if method.partition(".")[2] in routes:
            yield method, method.partition(".")[2], (Point.REPLY_LOST,)
    if not any(isinstance(each, HttpEntrypoint) for _, each in entrypoints(service)):
        yield from ((call, call, OF_A_CALL) for call in wiring.calls)


def _of_entrypoints(service: type, wiring: Wiring, routes: set[str]) -> Passages:
    for name, entrypoint in entrypoints(service):
        if isinstance(entrypoint, Worker):
            yield from ((str(kind), str(kind), OF_THE_PROCESSOR) for kind in AttemptKind)
        if isinstance(entrypoint, Timer) and _commits(service):
            yield f"{wiring.name}.{name}", f"{wiring.name}.{name}", OF_A_TIMER
        if isinstance(entrypoint, HttpEntrypoint) and name in routes:
            yield f"{wiring.name}.{name}", name, (*OF_A_CALL, Point.ANSWER_UNWRITTEN)


def _commits(service: type) -> bool:
    """Whether the service has a database; a timer of another one has nothing to be stopped in."""
    return any(isinstance(each, UnitOfWork) for each in vars(service).values())


def entrypoints(service: type) -> Iterator[tuple[str, Any]]:
    """The entrypoints of a service class, each with its method's name."""
    for name in dir(service):
        for entrypoint in getattr(getattr(service, name), ENTRYPOINT_EXTENSIONS_ATTR, ()):
            yield name, entrypoint


def _routes(service: type) -> Iterator[str]:
    """The routes that change an order."""
    for name, each in entrypoints(service):
        if isinstance(each, HttpEntrypoint) and each.url.startswith(ORDERS_ROUTES) and each.method not in READS:
            yield name
