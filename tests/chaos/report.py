"""The figures at the end: how available the doors were and what became of the orders."""

from collections.abc import Iterator, Mapping

from tests.chaos.door import Tally, share_of_good
from tests.chaos.load import Book


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
