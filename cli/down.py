"""``./oms down``: stops the cluster, services first, and leaves neither a process nor an open port."""

import argparse
from pathlib import Path

from cli.files import locked
from cli.progress import Progress
from cli.servers.place import remove
from cli.services import SERVICES
from cli.state import CHECKOUT, State, current
from cli.supervision import Supervisor
from cli.trouble import Trouble

HELP = "stop everything; what was stored stays"


def configure(parser: argparse.ArgumentParser) -> None:
    """--delete-everything."""
    parser.add_argument(
        "--delete-everything", action="store_true", help="remove databases, queues, logs and passwords too"
    )


def run(args: argparse.Namespace) -> int:
    """0; stopping what does not run is fine too."""
    state = current()
    if not state.folder.exists():
        print("Nothing runs.")
        return 0
    if args.delete_everything:
        delete_everything(state, Progress())
    else:
        bring_down(state, Progress())
    return 0


def delete_everything(state: State, progress: Progress) -> None:
    """The cluster stopped and its folder gone; raises :class:`Trouble` when more than a cluster would go with it."""
    folder = state.folder.resolve()
    if any(kept.is_relative_to(folder) for kept in (CHECKOUT, Path.home().resolve())):
        raise Trouble(f"{folder} holds more than a cluster and is not deleted. Set OMS_STATE to a folder of its own.")
    bring_down(state, progress)
    remove(state.folder)
    progress.tell(f"removed {state.folder}")


def bring_down(state: State, progress: Progress) -> None:
    """The cluster stopped: services finish what they do, then the servers stop, then whatever is left is ended."""
    state.make()
    with locked(state.folder / "up.lock"):
        supervisor = Supervisor(state)
        names = [process.name for process in supervisor.processes() if process.runs]
        services = [name for name in names if name.partition("-")[0] in SERVICES]
        supervisor.stop(services)
        if services:
            progress.tell("services stopped")
        supervisor.stop(set(names) - set(services) - {"epmd"})
        supervisor.shut_down()
    progress.tell("everything stopped")
