"""``./oms mutants``: hands over to ``tests/mutants``, which puts classic mistakes into copies of the code."""

import argparse

from cli.handover import hand_over

HELP = "make classic mistakes in copies of the code, and show the test that finds each"
PASSES_ON = True


def run(args: argparse.Namespace) -> int:
    """0 when every mistake was found."""
    return hand_over("tests.mutants", *args.rest)
