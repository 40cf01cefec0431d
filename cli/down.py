"""``./oms down``: stops the cluster, services first, and leaves neither a process nor an open port."""

import argparse

from cli.files import locked
from cli.progress import Progress
from cli.servers.place import remove
from cli.services import SERVICES
from cli.state import State, current
from cli.supervision import Supervisor

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
    bring_down(state, Progress())
    if args.delete_everything:
        remove(state.folder)
        print(f"Removed {state.folder}.")
    return 0


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
