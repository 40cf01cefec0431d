"""``./oms test``: pytest over ``tests/``; the tests start and stop the servers they need themselves."""

import argparse
from collections.abc import Sequence
from typing import Final

from cli.handover import hand_over
from cli.state import CHECKOUT

HELP = "run the tests on real servers of their own; arguments go to pytest"
PASSES_ON = True

SIDE_BY_SIDE: Final = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
"""A process for each core, up to four: each has servers and a cluster of its own, and takes file after file."""


def run(args: argparse.Namespace) -> int:
    """Pytest's exit code."""
    options = SIDE_BY_SIDE if is_for_several(args.rest) else ()
    return hand_over("pytest", "--suppress-nameko-eventlet-notification", *options, *args.rest)


def is_for_several(arguments: Sequence[str]) -> bool:
    """Whether more than one process is to run the tests: all of them were asked for, and nothing was said of it."""
    names_some = any((CHECKOUT / each.partition("::")[0]).exists() for each in arguments)
    return not names_some and not any(each.startswith(("-n", "--numprocesses")) for each in arguments)
