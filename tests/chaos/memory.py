"""How much memory each process takes while the load goes on, and whether that grows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import linear_regression, median
from typing import Final

import psutil

from tests.chaos.diary import Diary
from tests.chaos.ground import Ground
from tests.chaos.lives import Life

MEBIBYTE: Final = 1024 * 1024
SAMPLE_SECONDS: Final = 5.0

JUDGED_AFTER_SECONDS: Final = 600.0
"""A process that has not lived so long may still be getting to its size."""

MOST_GROWTH: Final = 3.0
"""The MiB that a process may grow by in the last two thirds of its life, by the line through what it took.

In a soak of half an hour at four orders a second this is 600 bytes an order.
"""

Samples = Mapping[tuple[str, int], Sequence[float]]
"""The MiB that each process took, one figure every few seconds, by instance and process id."""


class Memory:
    """Looks at every instance's process now and then."""

    def __init__(self, ground: Ground, diary: Diary) -> None:
        self.ground = ground
        self.diary = diary
        self.samples: dict[tuple[str, int], list[float]] = defaultdict(list)

    def watch(self, seconds: float) -> Life:
        """Until so many seconds have passed."""
        while self.diary.seconds < seconds:
            self.look()
            yield SAMPLE_SECONDS

    def look(self) -> None:
        """One figure more of each process that lives."""
        for instance, child in sorted(self.ground.cluster.children.items()):
            try:
                taken = psutil.Process(child.process.pid).memory_info().rss
            except psutil.NoSuchProcess:
                continue
            if taken:  # not one that has died and was not buried yet
                self.samples[instance, child.process.pid].append(taken / MEBIBYTE)


def thirds(samples: Sequence[float]) -> tuple[float, float, float]:
    """The usual figure in the first, the middle and the last third of the time."""
    size = max(1, len(samples) // 3)
    return median(samples[:size]), median(samples[size : -size or None] or samples), median(samples[-size:])


def growth(samples: Sequence[float]) -> float:
    """By how much the line through the last two thirds of the figures rises."""
    late = samples[len(samples) // 3 :]
    return linear_regression(range(len(late)), late).slope * len(late)


def judged(samples: Samples) -> Iterator[tuple[str, int]]:
    """The processes that lived long enough to tell."""
    return (process for process, taken in samples.items() if len(taken) * SAMPLE_SECONDS >= JUDGED_AFTER_SECONDS)


def grown(samples: Samples) -> Iterator[str]:
    """The processes that took more and more."""
    for instance, pid in judged(samples):
        more = growth(samples[instance, pid])
        if more > MOST_GROWTH:
            yield f"{instance} (process {pid}) grew by {more:.1f} MiB in the last two thirds of its life"


def lines(samples: Samples) -> Iterator[str]:
    """What every process took, and how many lived long enough to be judged."""
    yield "memory in MiB, usual in the first, middle and last third of each process's life, and at most:"
    for (instance, _), taken in sorted(samples.items()):
        first, middle, last = thirds(taken)
        yield f"  {instance:<17} {first:>5.0f} {middle:>5.0f} {last:>5.0f} {max(taken):>5} in {len(taken)} figures"
    yield f"  {len(list(judged(samples)))} of these processes lived for {JUDGED_AFTER_SECONDS:.0f} s and were judged"
