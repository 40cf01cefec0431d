"""``./oms test``: pytest over ``tests/``; the tests start and stop the servers they need themselves."""

import argparse

from cli.handover import hand_over

HELP = "run the tests on real servers of their own; arguments go to pytest"
PASSES_ON = True


def run(args: argparse.Namespace) -> int:
    """Pytest's exit code."""
    return hand_over("pytest", "--suppress-nameko-eventlet-notification", *args.rest)
