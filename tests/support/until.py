"""Waiting with a deadline: what every test does instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import Final, TypeVar

Value = TypeVar("Value")

PAUSE_SECONDS: Final = 0.03


def eventually(look: Callable[[], Value | None], what: str = "it", seconds: float = 60.0) -> Value:
    """The first answer of ``look`` that is true; fails with the last one when there is none in time."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"{what}: not in {seconds} s; the last answer was {found!r}"
        time.sleep(PAUSE_SECONDS)
    return found
