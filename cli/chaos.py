"""``./oms chaos``: hands over to ``tests/chaos``, which breaks a cluster of its own under load and judges it."""

import argparse
import os
import subprocess
import sys

from cli.state import CHECKOUT

HELP = "break a cluster of its own under load, and say whether anything was lost"
PASSES_ON = True


def run(args: argparse.Namespace) -> int:
    """0 when every promise was kept."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "tests.chaos", *args.rest]
    return subprocess.run(command, check=False, cwd=CHECKOUT, env=environment).returncode
