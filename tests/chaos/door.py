"""Asking the gateways as a load balancer does: in turn, and not for a moment where nobody has answered."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import Any, Final

import requests

from cli.readiness import direct_session

PATIENCE_SECONDS: Final = 10
"""Longer than the gateway may take over any answer: whoever keeps silent for longer hangs."""

AWAY_SECONDS: Final = 2
"""How often a gateway that did not answer is tried by one request, while there is another."""

REFUSED: Final = "no connection"
SILENT: Final = f"no answer in {PATIENCE_SECONDS} s"
PASSING: Final = (REFUSED, SILENT, "408", "429", "503", "504", "409 idempotency_key_in_use")
"""What a client tries again, with the same key. 408 is said by a gateway that was frozen while it read the body."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    outcome: str
    """The status, with the problem's code where there is one; or what happened instead of an answer."""
    document: dict[str, Any] = field(default_factory=dict)
    retry_after: float = 0.0
    """The seconds that the answer asks to wait."""
    tries: int = 1
    """Which try it was that was answered so."""

    @property
    def is_final(self) -> bool:
        """Whether asking again would be pointless."""
        return self.outcome not in PASSING


@dataclass
class Tally:
    """How often each thing was asked for and what came of it."""

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    with_servers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Those of them that were asked for and answered while every server was at work."""
    longest: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """The slowest answer to each."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, what: str, outcome: str, seconds: float, *, with_servers: bool) -> None:
        """Count one answer, or the want of one, after so many seconds."""
        with self._lock:
            self.outcomes[what][outcome] += 1
            if with_servers:
                self.with_servers[what][outcome] += 1
            if outcome not in (REFUSED, SILENT):
                self.longest[what] = max(self.longest[what], seconds)


def share_of_good(outcomes: Counter[str]) -> float:
    """How many of a hundred tries were answered with what was wanted."""
    good = sum(times for outcome, times in outcomes.items() if outcome.startswith("2"))
    return 100 * good / max(1, outcomes.total())


class Door:
    """All gateways of the cluster."""

    def __init__(self, urls: list[str], tally: Tally, is_served: Callable[[], bool]) -> None:
        self.urls = urls
        self.tally = tally
        self.is_served = is_served
        self._turns = count()
        self._next_try: dict[str, float] = {}
        """Of those that did not answer."""
        self._own = threading.local()

    def ask(self, what: str, method: str, path: str, *, token: str = "", key: str = "", body: object = None) -> Answer:
        """One try at the gateway whose turn it is."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if key:
            headers["Idempotency-Key"] = key
        door = self.choose()
        began, served = monotonic(), self.is_served()
        try:
            answer = answered(
                self.session().request(method, door + path, json=body, headers=headers, timeout=PATIENCE_SECONDS)
            )
        except requests.Timeout:
            answer = Answer(SILENT)
        except requests.RequestException:  # refused, reset, or cut off in the middle of the answer
            answer = Answer(REFUSED)
        if answer.outcome in (REFUSED, SILENT):
            self._next_try[door] = monotonic() + AWAY_SECONDS
        else:
            self._next_try.pop(door, None)
        self.tally.add(what, answer.outcome, monotonic() - began, with_servers=served and self.is_served())
        return answer

    def choose(self) -> str:
        """The next gateway of those that answer, or of all when none does."""
        now = monotonic()
        present = [url for url in self.urls if self._next_try.get(url, 0.0) <= now] or self.urls
        door = present[next(self._turns) % len(present)]
        if door in self._next_try:
            self._next_try[door] = now + AWAY_SECONDS
        return door

    def session(self) -> requests.Session:
        """The connections of the thread that asks."""
        if not hasattr(self._own, "session"):
            self._own.session = direct_session()
        found: requests.Session = self._own.session
        return found


def answered(response: requests.Response) -> Answer:
    """The response as an answer."""
    document = response.json() if response.content else {}
    code = document.get("code", "") if not response.ok else ""
    outcome = str(response.status_code)
    if code and outcome not in PASSING:
        outcome += f" {code}"
    return Answer(outcome, document, float(response.headers.get("Retry-After", 0)))
