"""``./oms up``: from whatever there is to a cluster that is ready; what runs already is left alone."""

import argparse

from cli.cluster import Cluster
from cli.environments import ADMIN_EMAIL, admin_password, read_environment
from cli.progress import Progress
from cli.servers.ports import LOOPBACK
from cli.services import SERVICES
from cli.state import State, current
from cli.trouble import Trouble

HELP = "start everything in the background and wait until it is ready"


def configure(parser: argparse.ArgumentParser) -> None:
    """--scale."""
    parser.add_argument(
        "--scale",
        metavar="SERVICE=N",
        action="append",
        default=[],
        help="run N instances of a service, such as orders=2",
    )


def run(args: argparse.Namespace) -> int:
    """0 when everything is ready."""
    scale = dict(number_of(wish) for wish in args.scale)
    bring_up(current(), scale)
    return 0


def bring_up(state: State, scale: dict[str, int] | None = None) -> None:
    """A cluster that is ready, with a word to the person about where it is."""
    progress = Progress()
    Cluster(state, progress).up(scale or {})
    progress.tell("ready\n")
    print(greeting(state))


def number_of(wish: str) -> tuple[str, int]:
    """``("orders", 2)`` of ``orders=2``."""
    service, _, number = wish.partition("=")
    if service not in SERVICES or not number.isdigit() or not 1 <= int(number) <= 9:
        raise Trouble(
            f"--scale {wish} is not understood. Say for example --scale orders=2; services: {', '.join(SERVICES)}."
        )
    return service, int(number)


def greeting(state: State) -> str:
    """Where the cluster is and how to get in."""
    told = read_environment(state, "gateway")
    own = told["TLS_CERTIFICATE"].startswith(f"{state.tls}/")
    trust = f"  (curl --cacert {state.authority})" if own else ""
    return "\n".join(
        [
            f"  API            http://{LOOPBACK}:{told['HTTP_PORT']}",
            f"                 https://localhost:{told['HTTPS_PORT']}{trust}",
            f"  administrator  {ADMIN_EMAIL}  {admin_password(state)}",
            f"  mailbox        {state.mailbox}",
            f"  settings       {state.environments}/<service>",
            "",
            "  ./oms demo     places real orders      ./oms status   shows what runs",
            "  ./oms logs -f  follows what happens    ./oms down     stops everything",
        ]
    )
