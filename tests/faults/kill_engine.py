"""Runs the kill table on a cluster: several lanes at a time, each with one case after the other."""

import secrets
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final

from tests.faults.kill_stories import STORIES, happens_alone
from tests.faults.kill_table import OF_A_TIMER, Case
from tests.faults.kill_walk import PATIENCE_SECONDS, Lane, Walk, new_lane
from tests.faults.stops import VARIABLE, Hit, Point, Signal, Stops
from tests.support.client import Client
from tests.support.cluster import Cluster, instance_names
from tests.support.until import eventually

RUNNER: Final = (sys.executable, "-W", "ignore", "-m", "tests.faults.runner")
SETTINGS: Final[Mapping[str, str]] = {"HEARTBEAT": "2", "PRUNE_SECONDS": "0.5", "DENIED_RENEWAL_SECONDS": "1"}
ENDS: Final[Mapping[Signal, int]] = {Signal.KILL: -9, Signal.TERM: 0}
"""The exit codes of the processes that do not go on."""

THAWED_AFTER_SECONDS: Final = 12.0
"""A frozen process goes on when another has done its work, or after this time if nobody else may do it."""

AT_A_TIME: Final[Mapping[str, int]] = {"orders": 3, "inventory": 2, "payments": 2, "notifications": 3}
"""How many cases of a service run at a time where it has one instance more than that; one case of any other."""


@dataclass
class Verdict:
    """What came of a case."""

    case: Case
    orders: list[str] = field(default_factory=list)
    figures: dict[str, object] = field(default_factory=dict)


class KillEngine:
    """Stops processes of one cluster and says what came of it."""

    def __init__(self, cluster: Cluster, admin: Client, folder: Path) -> None:
        self.cluster = cluster
        self.admin = admin
        self.stops = Stops(folder)
        self.verdicts: dict[Case, Future[Verdict]] = {}
        self.abandoned = False
        self._over, self._closed = threading.Event(), threading.Event()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._alone = {cause: threading.Lock() for cause in STORIES if happens_alone(cause)}

    def start(self, cases: Sequence[Case]) -> None:
        """Go through all cases in a thread of its own."""
        self.verdicts = {case: Future() for case in cases}
        self._thread = threading.Thread(target=self._run, args=(cases,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the cases that are under way, and with it every process it started."""
        self.abandoned = True
        self._over.wait()
        self.cluster.stop(*(name for name, runner in self.cluster.runners.items() if runner == RUNNER))
        self._closed.set()
        self._thread.join()

    def _run(self, cases: Sequence[Case]) -> None:
        self._go_through(cases)
        self._over.set()
        self._closed.wait()  # what a thread has started ends with it

    def _go_through(self, cases: Sequence[Case]) -> None:
        """Kills with one instance of each service, then the rest with several, the longest last."""
        try:
            self._phase([case for case in cases if case.signal is Signal.KILL], spare=False)
            self._phase([case for case in cases if case.signal is not Signal.KILL and not case.seconds], spare=True)
            self._phase([case for case in cases if case.seconds], spare=True)
        except Exception as error:  # noqa: BLE001 - whoever waits for a verdict learns of it
            for verdict in self.verdicts.values():
                with suppress(InvalidStateError):
                    verdict.set_exception(error)

    def _phase(self, cases: Sequence[Case], *, spare: bool) -> None:
        """These cases, those of each service in lanes of its own."""
        waiting: dict[str, SimpleQueue[Case]] = defaultdict(SimpleQueue)
        for case in cases:
            waiting[case.place.service].put(case)
        lanes = {name: min(AT_A_TIME.get(name, 1) if spare else 1, queue.qsize()) for name, queue in waiting.items()}
        for name, count in lanes.items():
            for number in range(count):
                if (name, number) not in self._lanes:
                    self._lanes[name, number] = new_lane(self.cluster, self.admin)
        self._prepare({name: count + spare for name, count in lanes.items()})
        with ThreadPoolExecutor(sum(lanes.values()) or 1) as pool:
            for name, count in lanes.items():
                for number in range(count):
                    pool.submit(self._work, self._lanes[name, number], waiting[name])
        self.cluster.wait_ready()

    def _prepare(self, instances: Mapping[str, int]) -> None:
        """So many instances of each service under the runner."""
        names = [name for service, count in instances.items() for name in instance_names(service, count)]
        plain = [name for name in names if self.cluster.runs(name) and self.cluster.runners.get(name) != RUNNER]
        self.cluster.stop(*plain)
        environment = {VARIABLE: str(self.stops.folder), **SETTINGS}
        for service, count in instances.items():
            self.cluster.start(service, instances=count, environment=environment, runner=RUNNER, ready=False)
        self.cluster.wait_ready()

    def _work(self, lane: Lane, cases: "SimpleQueue[Case]") -> None:
        """One case after the other until none is left."""
        while not self.abandoned:
            try:
                case = cases.get_nowait()
            except Empty:
                return
            try:
                self.verdicts[case].set_result(self._judge(case, lane))
            except Exception as error:  # noqa: BLE001 - it is the case's verdict
                self.verdicts[case].set_exception(error)

    def _judge(self, case: Case, lane: Lane) -> Verdict:
        began = time.monotonic()
        verdict = Verdict(case)
        with self._alone.get(case.place.cause, nullcontext()), self._armed(case) as tag:
            if case.signal is Signal.STOP:
                self._freeze(case, lane, tag, verdict)
            else:
                self._end(case, lane, tag, verdict)
        verdict.figures["seconds"] = round(time.monotonic() - began, 1)
        return verdict

    @contextmanager
    def _armed(self, case: Case) -> Iterator[str]:
        """The tag of the wish; requests carry it, timers are known by their names."""
        tag = case.place.subject if case.place.point in OF_A_TIMER else f"kill-{secrets.token_hex(8)}"
        self.stops.forget(tag)
        self.stops.arm(tag, case.wish)
        try:
            yield tag
        finally:
            self.stops.disarm(tag)

    def _tell(self, case: Case, lane: Lane, tag: str) -> Sequence["Future[str]"]:
        """The story under way; twice at once where a batch is needed."""
        times = 2 if case.place.point is Point.MID_BATCH else 1
        pool = ThreadPoolExecutor(times)
        told = [pool.submit(self._walk, case, lane, tag) for _ in range(times)]
        pool.shutdown(wait=False)
        return told

    def _walk(self, case: Case, lane: Lane, tag: str) -> str:
        walk = Walk(self.cluster, lane, tag)
        try:
            return STORIES[case.place.cause](walk)
        finally:
            walk.reader.close()

    def _end(self, case: Case, lane: Lane, tag: str, verdict: Verdict) -> None:
        """The process ends at its point, its keeper starts the next, and the story ends well."""
        verdict.orders = [each.result() for each in self._tell(case, lane, tag)]
        hit = self._hit(case, tag)
        assert self.stops.wait_end(hit.pid, PATIENCE_SECONDS) == ENDS[case.signal]

    def _freeze(self, case: Case, lane: Lane, tag: str, verdict: Verdict) -> None:
        """The process stands still at its point until another has done the work, and then goes on."""
        telling = self._tell(case, lane, tag)
        hit = self._hit(case, tag)
        try:
            eventually(lambda: hit.is_frozen)
            frozen_at = time.monotonic()
            done, _ = wait(telling, timeout=case.seconds or THAWED_AFTER_SECONDS)
            verdict.figures["done while frozen"] = len(done) == len(telling)
            eventually(lambda: time.monotonic() - frozen_at >= case.seconds, seconds=case.seconds + 1)
        finally:
            hit.thaw()
        verdict.orders = [each.result() for each in telling]
        eventually(lambda: not hit.is_frozen)

    def _hit(self, case: Case, tag: str) -> Hit:
        """Who was stopped, at the very point."""
        hit = eventually(lambda: self.stops.hit(tag), seconds=PATIENCE_SECONDS)
        assert hit.wish == case.wish
        return hit
