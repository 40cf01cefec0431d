"""``./oms shell``: Nameko's shell on the running cluster, with the event classes at hand.

It is the broker user ``operator``, who may write to every ``.events`` exchange and call nobody; so ``n`` dispatches
events but calls no RPC. An event that no queue is bound for is an error here, not lost.
"""

import argparse
import inspect
import os
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any
from uuid import uuid4

import msgspec
from nameko.cli.shell import ShellRunner
from nameko.standalone.events import event_dispatcher

import events
from cli.configuration import configuration
from cli.environments import read_environment
from cli.services import OPERATOR
from cli.state import current

HELP = "dispatch events by hand, in Nameko's shell"
BANNER = """The operator's shell of the cluster in {folder}

  n.dispatch_event("orders", "OrderCreatedEvent", {{...}})   dispatch plain values, as they travel
  dispatch(OrderCreatedEvent(...))                          dispatch an event of events.py, all of which are here
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments; commands may be piped into it."""


def run(_args: argparse.Namespace) -> int:
    """0 at its end; 1 when a piped command failed."""
    state = current()
    os.environ.update(read_environment(state, OPERATOR))
    runner = ShellRunner(BANNER.format(folder=state.folder), context(configuration()))
    try:
        runner.start_shell(name=None)
    except Exception:
        if sys.stdin.isatty():
            raise
        return 1  # the console has shown the traceback
    return 0


def context(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The names there are in the shell."""
    n = ModuleType("n", "Nameko at hand: n.dispatch_event(service, event_type, payload) and n.config.")
    n.__dict__["config"] = settings
    n.__dict__["dispatch_event"] = dispatch_event = event_dispatcher(settings, mandatory=True)

    def dispatch(event: events.Event) -> None:
        """Dispatch the event on its publisher's exchange."""
        dispatch_event(event.publisher, type(event).__name__, msgspec.to_builtins(event))

    return {**vocabulary(), "n": n, "dispatch": dispatch}


def vocabulary() -> dict[str, object]:
    """Every class of events.py, with what is needed to fill them."""
    classes = {name: kind for name, kind in vars(events).items() if inspect.isclass(kind)}
    return {**classes, "events": events, "outcome_id": events.outcome_id, "uuid4": uuid4}
