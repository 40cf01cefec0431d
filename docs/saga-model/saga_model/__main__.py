"""``PYTHONPATH=docs/saga-model .venv/bin/python -m saga_model`` explores all there is and prints what it saw."""

import sys
import time

from saga_model.explorer import Course, explore
from saga_model.promises import PROMISES
from saga_model.report import figures, outcomes
from saga_model.weathers import ALL, CALM


def main() -> int:
    """0 when every promise holds; otherwise it prints the shortest way to the broken one."""
    courses = {}
    for weather in ALL:
        began = time.process_time()
        course = courses[weather] = explore(weather)
        print(f"{weather.name}: {course.states:,} states, {time.process_time() - began:.1f} s of CPU", flush=True)
        if course.broken:
            print_broken(course)
            return 1
    print(f"\n{figures(courses)}\n\n{outcomes(courses[CALM])}\n")
    print(f"Kept everywhere: {'; '.join(PROMISES)}.")
    return 0


def print_broken(course: Course) -> None:
    """The promise, and the shortest way to where it does not hold."""
    print(f"\nBroken: {course.broken}")
    for number, what in enumerate(course.trace, start=1):
        print(f"{number:>4}. {what}")


if __name__ == "__main__":
    sys.exit(main())
