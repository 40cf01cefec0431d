"""When a request is sent again, and when for the last time."""

import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from oms_client.errors import Conflict, NoAnswer, OmsError, Problem, TooManyRequests, Untrusted

PASSING: Final = frozenset({502, 503, 504})
IN_USE: Final = "idempotency_key_in_use"


class Clock:
    """The time, and how to let it pass."""

    def now(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()

    def today(self) -> datetime:
        """The date and time that tokens are judged by."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Return after so many seconds."""
        time.sleep(seconds)


@dataclass(frozen=True)
class Retries:
    """At most ``attempts`` tries within ``deadline_seconds``; the pause doubles, and no two clients keep step."""

    attempts: int = 6
    deadline_seconds: float = 30.0
    first_pause_seconds: float = 0.2
    longest_pause_seconds: float = 5.0

    def pause(self, failures: int, asked: float | None = None) -> float:
        """How long to wait after so many failures; never less than the server ``asked`` for."""
        longest = min(self.longest_pause_seconds, self.first_pause_seconds * 2.0 ** (failures - 1))
        return (asked or 0.0) + longest * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads clients, and hides nothing


def may_be_sent_again(failure: OmsError, *, repeatable: bool) -> bool:
    """Whether another try may do better, and cannot do twice what may be done only once.

    What never arrived and what was refused at the door (429, a key in use) was not done. Anything else may have been:
    it is sent again only when it is ``repeatable``.
    """
    if isinstance(failure, NoAnswer):
        return not isinstance(failure, Untrusted) and (repeatable or not failure.uncertain)
    if isinstance(failure, TooManyRequests) or (isinstance(failure, Conflict) and failure.code == IN_USE):
        return True
    return isinstance(failure, Problem) and failure.status in PASSING and repeatable
