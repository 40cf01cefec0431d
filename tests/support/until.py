"""Waiting with a deadline: what every test does instead of sleeping and hoping."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def wait_until(condition: Callable[[], Value], seconds: float = 15.0) -> Value:
    """The first true value of ``condition()``; fails with the last one when there is none in time."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s; the last value was {value!r}"
        time.sleep(0.03)
