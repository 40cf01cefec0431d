"""Where a process dies: at a commit, or between the processor and the record of its answer."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, cast
from uuid import UUID

from greenlet import getcurrent, greenlet  # type: ignore[import-untyped] # it carries no types
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from services.chassis.relay import OutboxRelay
from services.chassis.tracing import Trace
from services.chassis.work import Begin, Delivery, Work
from services.payments.clients import CardProcessor, SimulatedProcessor
from services.payments.models import Request
from services.payments.transitions import Answer
from tests.support.fakes import Bell


class Killed(Exception):
    """The process has ended here."""


class Crash(Enum):
    """When a process dies at a commit."""

    NEVER = "never"
    BEFORE = "before the commit"
    AFTER = "after the commit, before anybody hears of it"


class Fuse:
    """Kills one service at its commits, and knows whether the last one succeeded."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.committed = False
        self.disarm()
        event.listen(sessions, "before_commit", self._before)
        event.listen(sessions, "after_commit", self._after)

    def arm(self, crash: Crash, commits: int = 1) -> None:
        """Die at this commit from now."""
        self.crash, self.commits = crash, commits

    def disarm(self) -> None:
        """Live on."""
        self.crash, self.commits = Crash.NEVER, 0

    def _before(self, _session: Session) -> None:
        self.commits -= 1
        self._trip(Crash.BEFORE)

    def _after(self, _session: Session) -> None:
        self.committed = True
        self._trip(Crash.AFTER)

    def _trip(self, crash: Crash) -> None:
        if self.crash is crash and self.commits == 0:
            raise Killed


class CountingBegin(Begin):
    """The chassis' own, which also counts how often each handler has answered each event for good."""

    def __init__(self, engine: Engine, answered: "Counter[tuple[UUID, str]]") -> None:
        sessions = sessionmaker(engine, expire_on_commit=False)
        super().__init__(sessions, cast("OutboxRelay", Bell()), Trace("a-request"))
        self.fuse = Fuse(sessions)
        self.answered = answered

    @contextmanager
    def once(self, delivery: Delivery[Any]) -> Iterator[Work | None]:
        """As the chassis says."""
        self.fuse.committed = False
        given: Work | None = None
        try:
            with super().once(delivery) as given:
                yield given
        finally:
            if given is not None and self.fuse.committed:
                self.answered[delivery.event.event_id, delivery.handler] += 1


class Line(SimulatedProcessor):
    """The processor without its pauses: a stalled call ends at once as one that was given up after a while."""

    def _deliver(self, answer: Answer, fault: str) -> Any:
        return super()._deliver(answer, {"stall": "fail", "slow": ""}.get(fault, fault))


class Desk:
    """Stands between payments and the processor: each call pauses once the processor has acted."""

    def __init__(self, book: Engine, engine: Engine) -> None:
        self.processor = CardProcessor(Line(book, 0), answer_seconds=60)
        self.engine = engine

    def ask(self, request: Request) -> Any:
        """What the processor answered, when the caller goes on."""
        assert self.engine.pool.checkedout() == 0, "the processor was asked inside a transaction"  # type: ignore[attr-defined]
        answers = self.processor.ask(request)
        caller = getcurrent().parent
        assert caller is not None
        caller.switch()
        return answers


class Errand:
    """An attempt under way: the processor has acted, its answer is not recorded yet."""

    def __init__(self, service: Any, request: Request) -> None:
        self.request = request
        self._way = greenlet(lambda: service.make_attempt(request))
        self._way.switch()

    def go_on(self) -> None:
        """Record what was answered."""
        self._way.switch()

    def die(self) -> None:
        """End here; nobody learns what was answered."""
        try:
            self._way.throw(Killed)
        except Killed:
            return
