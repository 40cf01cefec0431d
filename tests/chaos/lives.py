"""Many lives on few threads: a life is a generator that yields for how many seconds it wants to be left alone."""

import heapq
import time
import traceback
from collections.abc import Callable, Generator
from itertools import count
from threading import Condition, Thread

Life = Generator[float, None, None]


class Lives:
    """Leads every life that was begun to its end; what one raises is told to ``complain`` and ends that one."""

    def __init__(self, threads: int, complain: Callable[[str], None]) -> None:
        self.complain = complain
        self.under_way = 0
        self._due: list[tuple[float, int, Life]] = []
        self._numbers = count()
        self._changed = Condition()
        self._over = False
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def begin(self, life: Life) -> None:
        """Lead this life, too, from now on."""
        with self._changed:
            self.under_way += 1
        self._put(life, 0.0)

    def wait(self, seconds: float) -> int:
        """How many lives are still under way when all are over, or so many seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: not self.under_way, seconds)
            return self.under_way

    def end(self) -> None:
        """Leave those that are still under way where they are."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _put(self, life: Life, seconds: float) -> None:
        with self._changed:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._numbers), life))
            self._changed.notify()

    def _work(self) -> None:
        while (life := self._next()) is not None:
            try:
                seconds = next(life)
            except StopIteration:
                self._leave()
            except Exception:  # noqa: BLE001 - one life's trouble is not another's
                self.complain(traceback.format_exc())
                self._leave()
            else:
                self._put(life, seconds)

    def _leave(self) -> None:
        with self._changed:
            self.under_way -= 1
            self._changed.notify_all()

    def _next(self) -> Life | None:
        """The next life that is due; None when all is over."""
        with self._changed:
            while not self._over:
                now = time.monotonic()
                if self._due and self._due[0][0] <= now:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(self._due[0][0] - now if self._due else None)
        return None
