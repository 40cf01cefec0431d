"""``nameko run`` in a process whose clock is wrong: ``python -m tests.faults.shifted run --config ... <module>``."""

import os
import sys
from datetime import timedelta
from typing import Final

from time_machine import travel

VARIABLE: Final = "OMS_TEST_CLOCK_HOURS"
"""The environment variable that says by how many hours the process's clock is ahead."""

SHIFTED: Final = (sys.executable, "-W", "ignore", "-m", "tests.faults.shifted")
"""What runs such a process instead of ``nameko``."""


def main() -> None:
    """Move the clock, then do what ``nameko`` does."""
    travel(timedelta(hours=float(os.environ[VARIABLE]))).start()
    from nameko.cli.main import main as nameko  # noqa: PLC0415 - nothing may have looked at the clock before

    nameko()


if __name__ == "__main__":
    main()
