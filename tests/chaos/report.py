"""The figures at the end: how available the doors were, what became of the orders, how the memory went."""

from collections.abc import Iterator, Mapping
from typing import Final

import psutil

from tests.chaos.door import Tally, share_of_good
from tests.chaos.ground import Ground
from tests.chaos.load import Book

MEBIBYTE: Final = 1024 * 1024


def memory(ground: Ground) -> dict[str, tuple[int, int]]:
    """Each instance's process and how many MiB it takes."""
    found = {}
    for instance, child in sorted(ground.cluster.children.items()):
        if child.alive:
            taken = psutil.Process(child.process.pid).memory_info().rss
            found[instance] = (child.process.pid, taken // MEBIBYTE)
    return found


def on_answers(tally: Tally) -> Iterator[str]:
    """A line for each thing that was asked for: how many tries, what came of them, the slowest answer."""
    yield "tries, by what was asked for:"
    for what, outcomes in sorted(tally.outcomes.items()):
        parts = ", ".join(f"{times} x {outcome}" for outcome, times in outcomes.most_common())
        share, served = share_of_good(outcomes), share_of_good(tally.with_servers[what])
        good = f"{share:5.1f} % good ({served:5.1f} % while every server worked)"
        yield f"  {what:<9} {outcomes.total():>6}, {good}, slowest answer {tally.longest[what]:4.1f} s: {parts}"


def on_orders(book: Book, outcomes: Mapping[str, int]) -> Iterator[str]:
    """How many were wished for and placed, and how they ended."""
    first = 100 * book.at_first_try / max(1, len(book.orders))
    yield f"orders: {book.wished} wished for, {len(book.orders)} promised ({first:.1f} % at the first try),"
    yield f"  the slowest {book.longest:.1f} s after the wish; {sum(outcomes.values())} in the books:"
    yield "  " + ", ".join(f"{orders} {outcome}" for outcome, orders in outcomes.items())


def on_memory(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    """What each process took at the beginning and takes now; ``*`` for one that was started again meanwhile."""
    yield "memory in MiB, at the beginning and the end (* a new process):"
    for instance in before:
        pid, taken = before[instance]
        now, takes = after.get(instance, (0, 0))
        yield f"  {instance:<17} {taken:>4} {takes:>4}{'' if pid == now else ' *'}"
