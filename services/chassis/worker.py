"""Work that waits in a database, not in a queue: begun at the commit that caused it, swept for what was left lying.

One method of a service claims a few jobs, under a lease so that any number of instances may; another does one job::

    attempts = Waker("make_attempt")  # work.after_commit(self.attempts.wake)

    def claim_attempts(self, most: int) -> Claimed[Attempt]: ...

    @worker(claim="claim_attempts", sweep="PROCESSOR_SWEEP_SECONDS", at_once="PROCESSOR_AT_ONCE")
    def make_attempt(self, attempt: Attempt) -> None: ...

Jobs run beside each other, so a slow one holds up none of the rest until ``at_once`` of them are slow. An error ends
its job and nothing else; the job is due again when its lease has run out, and a claim says when that will be.

The worker is an entrypoint and only its handle a provider: Nameko stops entrypoints first, so that nothing is claimed
any more while the container waits for what runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import eventlet
from eventlet.event import Event as Signal
from nameko.exceptions import ConfigurationError
from nameko.extensions import Entrypoint

from services.chassis.config import positive, read, whole
from services.chassis.errors import Unavailable
from services.chassis.provider import Provider
from services.chassis.tracing import CORRELATION

Job = TypeVar("Job")

FIRST_BACKOFF_SECONDS: Final = 0.5
"""How long to wait after a claim that failed; twice as long after the next, at most as long as between two sweeps."""

SHORTEST_REST_SECONDS: Final = 0.05


@dataclass(frozen=True)
class Claimed(Generic[Job]):
    """What a claim found; ``next_in_seconds`` is when a further job will be due, None when no such time is known."""

    jobs: Sequence[Job]
    next_in_seconds: float | None = None


class Worker(Entrypoint):
    """Does the jobs that the method ``claim`` finds, ``at_once`` of them at a time; both settings are read at start."""

    def __init__(self, claim: str, *, sweep: str, at_once: str) -> None:
        super().__init__(expected_exceptions=(Unavailable,))
        self.claim = claim
        self.sweep = sweep
        self.at_once = at_once

    def setup(self) -> None:
        """Read the settings."""
        self.sweep_seconds = read(self.container.config, self.sweep, positive)
        self.most = read(self.container.config, self.at_once, whole)
        self.claiming = _Claim(self.claim, self.container)
        self.running = 0
        self._stopping = False
        self._hungry = False
        self._backoff = 0.0
        self._wake = Signal()
        self._thread: Any = None

    def start(self) -> None:
        """Look for jobs at once, then whenever woken and at every sweep."""
        self._thread = self.container.spawn_managed_thread(self._run, identifier=f"worker {self.method_name}")

    def stop(self) -> None:
        """Claim nothing any more. Jobs that were claimed are workers of the container, which waits for them."""
        self._stopping = True
        self.wake()
        if self._thread:
            self._thread.wait()

    def kill(self) -> None:
        """End at once."""
        if self._thread:
            self._thread.kill()

    def wake(self) -> None:
        """Look for jobs now: one became due, or will be sooner than was known."""
        if not self._wake.ready():
            self._wake.send()

    def _run(self) -> None:
        while not self._stopping:
            self._wake = Signal()  # before the claim: whoever commits during it wakes the next one
            free = self.most - self.running
            claimed = self._claim(free) if free else Claimed([])
            self._hungry = len(claimed.jobs) == free
            for job in claimed.jobs:
                self._begin(job)
            with eventlet.Timeout(self._rest(claimed.next_in_seconds), False):  # noqa: FBT003 - eventlet's "silently"
                self._wake.wait()

    def _rest(self, next_in_seconds: float | None) -> float:
        """How long nothing will be due, unless somebody wakes the worker."""
        if self._backoff or next_in_seconds is None or self._hungry:
            return self._backoff or self.sweep_seconds
        return min(self.sweep_seconds, max(SHORTEST_REST_SECONDS, next_in_seconds))

    def _claim(self, most: int) -> Claimed[Any]:
        """What the claiming method found; nothing when it failed, which the container has logged."""
        answered = Signal()

        def settle(_context: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
            answered.send(None if exc_info else result)
            return result, exc_info

        self.container.spawn_worker(self.claiming, (most,), {}, handle_result=settle)
        claimed: Claimed[Any] | None = answered.wait()
        failed_again = min(self.sweep_seconds, max(FIRST_BACKOFF_SECONDS, self._backoff * 2))
        self._backoff = 0.0 if claimed else failed_again
        return claimed or Claimed([])

    def _begin(self, job: Any) -> None:
        correlation_id = getattr(job, CORRELATION, None)
        context = {CORRELATION: correlation_id} if correlation_id else {}
        self.running += 1
        self.container.spawn_worker(self, (job,), {}, context_data=context, handle_result=self._ended)

    def _ended(self, _context: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        self.running -= 1
        if self._hungry or exc_info:
            self.wake()
        return result, exc_info


class _Claim(Entrypoint):
    """Stands for the claiming method, which nothing but its worker calls."""

    def __init__(self, method_name: str, container: Any) -> None:
        super().__init__(expected_exceptions=(Unavailable,))
        self.method_name = method_name
        self.container = container


class Waker(Provider[Worker]):
    """Injects the worker that does ``method_name``, to be woken."""

    def __init__(self, method_name: str) -> None:
        self.method_name = method_name

    def setup(self) -> None:
        """Find the worker; a service without it does not start."""
        found = [each for each in self.container.entrypoints if isinstance(each, Worker)]
        self.worker = next((each for each in found if each.method_name == self.method_name), None)
        if self.worker is None:
            raise ConfigurationError(f"{self.method_name} is not decorated as a worker")

    def get_dependency(self, worker_ctx: Any) -> Worker:
        """The worker."""
        assert self.worker is not None  # noqa: S101 - setup saw to it
        return self.worker


worker = Worker.decorator
