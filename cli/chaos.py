"""``./oms chaos``: hands over to ``tests/chaos``, which breaks a cluster of its own under load and judges it."""

import argparse

from cli.handover import hand_over

HELP = "break a cluster of its own under load, and say whether anything was lost"
PASSES_ON = True


def run(args: argparse.Namespace) -> int:
    """0 when every promise was kept."""
    return hand_over("tests.chaos", *args.rest)
