"""``./oms test``: pytest over ``tests/``; the tests start and stop the servers they need themselves."""

import argparse
import os
import subprocess
import sys

from cli.state import CHECKOUT

HELP = "run the tests on real servers of their own; arguments go to pytest"
PASSES_ON = True


def run(args: argparse.Namespace) -> int:
    """Pytest's exit code."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "pytest", "--suppress-nameko-eventlet-notification", *args.rest]
    return subprocess.run(command, check=False, cwd=CHECKOUT, env=environment).returncode
