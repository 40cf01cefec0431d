"""``./oms reset``: a new, empty cluster in the place of the one there is, after asking."""

import argparse
import os
import sys
from typing import Final

from cli.down import delete_everything
from cli.progress import Progress
from cli.state import State, current
from cli.trouble import Trouble
from cli.up import bring_up

HELP = "delete everything that was stored and start afresh; asks before it does"
GIVEN: Final = ("OMS_POSTGRES_URL", "OMS_RABBITMQ_URL", "OMS_REDIS_URL")
"""Servers that ``./oms`` did not start: it never deletes anything there, so it cannot reset them."""


def configure(parser: argparse.ArgumentParser) -> None:
    """--yes."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    """0 when a new cluster is ready; 1 when the person said no."""
    state = current()
    refuse_given_servers()
    if state.folder.exists():
        if not args.yes and not agreed(state):
            print("Nothing was done.")
            return 1
        delete_everything(state, Progress())
    bring_up(state)
    return 0


def refuse_given_servers() -> None:
    """Raise :class:`Trouble` when the environment names a server, which only its owner may empty."""
    given = [name for name in GIVEN if os.environ.get(name)]
    if given:
        raise Trouble(
            f"{' and '.join(given)} name servers of your own; ./oms deletes nothing there. Empty them yourself, "
            "then run ./oms down --delete-everything and ./oms up."
        )


def agreed(state: State) -> bool:
    """Whether the person at the terminal says yes; raises :class:`Trouble` when there is nobody to ask."""
    if not sys.stdin.isatty():
        raise Trouble(
            f"This deletes {state.folder}, and nobody is there to ask. "
            "Run it in a terminal, or say that you are sure: ./oms reset --yes"
        )
    print(f"This stops the cluster and deletes {state.folder}: databases, queues, mails, logs and passwords.")
    print("Start afresh? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
