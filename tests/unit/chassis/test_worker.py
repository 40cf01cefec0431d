from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import eventlet
import pytest
from eventlet.event import Event as Signal
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError

from services.chassis.worker import Claimed, Waker, worker

SETTINGS = {"SWEEP": 60, "AT_ONCE": 3}


class Yard:
    """Where the jobs of one test lie."""

    def __init__(self) -> None:
        self.waiting: list[str] = []
        self.claims: list[int] = []
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.gate = Signal()
        self.breaks: list[Exception] = []
        self.next_in_seconds: float | None = None


class YardService:
    """Claims what waits in the yard and does it."""

    name = "yard"
    yard: ClassVar[Yard]

    jobs = Waker("do")

    def claim(self, most: int) -> Claimed[str]:
        """The first few that wait."""
        self.yard.claims.append(most)
        if self.yard.breaks:
            raise self.yard.breaks.pop()
        found, self.yard.waiting = self.yard.waiting[:most], self.yard.waiting[most:]
        return Claimed(found, self.yard.next_in_seconds)

    @worker(claim="claim", sweep="SWEEP", at_once="AT_ONCE")
    def do(self, job: str) -> None:
        """Behave as the job says."""
        self.yard.begun.append(job)
        if job.startswith("slow"):
            self.yard.gate.wait()
        if job.startswith("bad"):
            raise RuntimeError(job)
        self.yard.ended.append(job)


def until(condition: Callable[[], bool]) -> None:
    """Let the others run until the condition holds; fail after two seconds."""
    with eventlet.Timeout(2):
        while not condition():
            eventlet.sleep(0.005)


@contextmanager
def running(service: type, **settings: Any) -> Iterator[Any]:
    """The service's container, with its worker at hand."""
    container = ServiceContainer(service, {"AMQP_URI": "", **SETTINGS, **settings})
    container.start()
    try:
        yield next(iter(container.entrypoints))
    finally:
        container.stop()


@pytest.fixture
def yard() -> Yard:
    """An empty yard, known to the service."""
    YardService.yard = Yard()
    return YardService.yard


class TestWorker:
    """Jobs that wait in a database."""

    def test_does_what_waits_at_the_start(self, yard: Yard) -> None:
        """An instance that died may have left it."""
        yard.waiting = ["a", "b"]

        with running(YardService):
            until(lambda: yard.ended == ["a", "b"])

    def test_begins_at_once_when_woken(self, yard: Yard) -> None:
        """Long before the next sweep."""
        with running(YardService) as jobs:
            until(lambda: yard.claims == [3])
            yard.waiting = ["a"]

            jobs.wake()

            until(lambda: yard.ended == ["a"])

    def test_lets_a_slow_job_hold_up_nobody(self, yard: Yard) -> None:
        """As long as not all of them are slow."""
        yard.waiting = ["slow 1", "slow 2", *"abcdef"]

        with running(YardService):
            until(lambda: yard.ended == list("abcdef"))
            yard.gate.send()

    def test_claims_no_more_than_it_can_do(self, yard: Yard) -> None:
        """And goes on as soon as it can do more."""
        yard.waiting = [f"slow {number}" for number in range(5)]

        with running(YardService):
            until(lambda: len(yard.begun) == 3)
            assert yard.claims == [3]
            yard.gate.send()
            until(lambda: len(yard.ended) == 5)

    def test_outlives_a_job_that_fails(self, yard: Yard) -> None:
        """Its error ends it and nothing else."""
        yard.waiting = ["bad", "a"]

        with running(YardService):
            until(lambda: yard.ended == ["a"])

    def test_outlives_a_claim_that_fails(self, yard: Yard) -> None:
        """And tries again long before the next sweep."""
        yard.breaks = [RuntimeError("away")]
        yard.waiting = ["a"]

        with running(YardService):
            until(lambda: yard.ended == ["a"])

    def test_looks_again_when_the_claim_said_so(self, yard: Yard) -> None:
        """Without being woken, and without a sweep."""
        yard.next_in_seconds = 0.1

        with running(YardService):
            until(lambda: len(yard.claims) == 1)
            yard.waiting = ["a"]
            until(lambda: yard.ended == ["a"])

    def test_sweeps_for_what_nobody_told(self, yard: Yard) -> None:
        """At the distance of the setting."""
        with running(YardService, SWEEP=0.1):
            until(lambda: len(yard.claims) == 1)
            yard.waiting = ["a"]
            until(lambda: yard.ended == ["a"])

    def test_stops_after_the_jobs_it_began(self, yard: Yard) -> None:
        """And claims none any more."""
        yard.waiting = ["slow", "slow", "slow", "a"]

        with running(YardService):
            until(lambda: len(yard.begun) == 3)
            eventlet.spawn_after(0.05, yard.gate.send)

        assert yard.ended == ["slow", "slow", "slow"]
        assert yard.waiting == ["a"]


class TestWaker:
    """The worker's handle."""

    def test_needs_a_worker_of_that_name(self, yard: Yard) -> None:
        """A service that wakes nobody does not start."""

        class Lonely:
            """Wakes a method that is no worker."""

            name = "lonely"
            jobs = Waker("do")

        with pytest.raises(ConfigurationError, match="do is not decorated"):
            ServiceContainer(Lonely, {**SETTINGS}).start()
