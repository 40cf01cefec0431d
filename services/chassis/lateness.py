"""How late a message comes, between processes whose clocks have nothing to do with each other.

A message says when it left by its sender's clock. What our clock says more is how far the two differ, and the way it
took; the fastest message of the same sender tells the former. So whatever kept a message is seen, be it a queue, a
connection or a broker that was frozen and took into its own time what had waited at its door.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

WINDOW_SECONDS: Final = 15.0
"""How long a sender's fastest message counts, and once more as long: clocks drift, and one may stand still for a while.

Only messages move it on, so after a silence of any length the first is still measured by what was before."""

MOST_SENDERS: Final = 1000


@dataclass
class _Fastest:
    """The shortest way of a sender's messages, in this window and in the one before."""

    since: float
    now: float
    before: float


class Lateness:
    """Measures the messages of every sender; nobody's first is late."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._senders: OrderedDict[str, _Fastest] = OrderedDict()

    def of(self, sender: str, left_at_ms: object) -> float:
        """By how many seconds the message is later than its sender's fastest; 0 when it does not say when it left."""
        if not isinstance(left_at_ms, int) or isinstance(left_at_ms, bool):
            return 0.0
        now = self._clock()
        way = now - left_at_ms / 1000
        fastest = self._senders.pop(sender, None) or _Fastest(now, way, way)
        if now - fastest.since > WINDOW_SECONDS:
            fastest = _Fastest(now, way, fastest.now)
        fastest.now = min(fastest.now, way)
        self._senders[sender] = fastest
        if len(self._senders) > MOST_SENDERS:
            self._senders.popitem(last=False)
        return way - min(fastest.now, fastest.before)
