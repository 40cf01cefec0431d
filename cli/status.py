"""``./oms status``: what runs, since when, where, and whether it is ready."""

import argparse
import json
from dataclasses import asdict, dataclass

from cli.environments import port_names
from cli.readiness import ask
from cli.servers.ports import Ports
from cli.servers.private import Recipes
from cli.services import SERVICES
from cli.state import State, current
from cli.supervision import Process, Supervisor, uptime

HELP = "show what runs; exit code 0 only when everything is ready"


@dataclass(frozen=True)
class Line:
    """One process for a person to see."""

    process: str
    state: str
    pid: int | None
    seconds: int | None
    port: int | None
    https_port: int | None
    ready: bool
    reason: str


def configure(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """0 when every process is ready."""
    state = current()
    found = lines(state) if state.folder.exists() else []
    if args.json:
        print(json.dumps([asdict(line) for line in found], indent=2))
    elif found:
        print(table(found))
    else:
        print("Nothing runs. Start it: ./oms up")
    return 0 if complete(found) else 1


def complete(found: list[Line]) -> bool:
    """Whether all six services are there and everything is ready."""
    return set(SERVICES) <= {line.process for line in found} and all(line.ready for line in found)


def lines(state: State) -> list[Line]:
    """Every process of the cluster."""
    return [line_of(state, process) for process in sorted(Supervisor(state).processes(), key=order)]


def order(process: Process) -> tuple[int, str]:
    """Services in their own order, after the servers."""
    service = process.name.partition("-")[0]
    return (list(SERVICES).index(service) if service in SERVICES else -1, process.name)


def line_of(state: State, process: Process) -> Line:
    """The process and whether it is ready."""
    ports, https_port = Ports(state.ports).known(), None
    if process.name.partition("-")[0] in SERVICES:
        port, https_port = (ports.get(name) for name in port_names(process.name))
        answer = ask(port) if process.runs and port else None
        ready, reason = (answer.ready, answer.reason) if answer else (False, "")
    else:
        port = ports.get(process.name)
        servers = {server.name: server for server in Recipes(state.folder).private()}
        ready, reason = process.runs and (process.name not in servers or servers[process.name].ready()), ""
    alive = process.pid > 0
    return Line(
        process.name,
        "running" if ready else process.state.lower(),  # the supervisor calls it starting for some seconds more
        process.pid or None,
        process.seconds if alive else None,
        port,
        https_port,
        ready,
        reason,
    )


def table(found: list[Line]) -> str:
    """The lines under each other."""
    rows = [f"{'PROCESS':<16}{'STATE':<10}{'PID':>8}  {'UPTIME':<10}{'PORT':>6} {'HTTPS':>6}  READY"]
    for line in found:
        time = uptime(line.seconds) if line.seconds is not None else "-"
        verdict = "yes" if line.ready else f"no  {line.reason}"
        where = f"{line.port or '-':>6} {line.https_port or '-':>6}"
        rows.append(f"{line.process:<16}{line.state:<10}{line.pid or '-':>8}  {time:<10}{where}  {verdict}")
    return "\n".join(rows)
