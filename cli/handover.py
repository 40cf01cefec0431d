"""Handing over to a program that stands in the checkout but not in ``cli/``: the tests, and what is built of them."""

import os
import subprocess
import sys

from cli.state import CHECKOUT


def hand_over(module: str, *arguments: str) -> int:
    """The exit code of ``python -m <module>``."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, check=False, cwd=CHECKOUT, env=environment).returncode
