"""Two clusters that start at once may choose the same port: one gets it, the other notices and takes another."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cli.cluster import SOURCED, Cluster
from cli.environments import Surroundings, read_environment, write_environment
from cli.progress import Progress
from cli.servers.endpoints import Endpoints
from cli.servers.place import remove
from cli.servers.ports import answers
from cli.servers.programs import Child, Program
from cli.state import State
from cli.supervision import Process, Supervisor
from tests.support.until import eventually

AROUND = Surroundings(Endpoints(amqp_url="amqp://a:b@127.0.0.1:1/oms"), {"orders": "postgresql+psycopg2://o:p@h/d"})
SERVICE = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Content(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

ThreadingHTTPServer(("127.0.0.1", int(os.environ["HTTP_PORT"])), Content).serve_forever()
"""
"""Listens where it is told to, and says that it is ready, whatever it is asked."""


class Hands(Supervisor):
    """Starts programs as children of the test."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.programs: dict[str, Program] = {}
        self.children: dict[str, Child] = {}

    def add(self, program: Program) -> None:
        """Make the program known."""
        self.programs[program.name] = program

    def start(self, name: str) -> None:
        """Start the program unless it runs."""
        if not self.runs(name):
            self.children[name] = Child(self.programs[name], self.state.logs / f"{name}.log")

    def stop(self, names: Iterable[str], seconds: float = 40) -> None:
        """Stop these programs."""
        for name in names:
            self.children[name].stop()

    def processes(self, names: Iterable[str] | None = None) -> list[Process]:
        """Those that were started and live."""
        return [
            Process(name, "RUNNING", child.process.pid, 1)
            for name, child in self.children.items()
            if child.alive and name in (names or self.children)
        ]


class Stand(Cluster):
    """A cluster of one program that stands for a service."""

    def __init__(self, state: State) -> None:
        super().__init__(state, Progress())
        self.supervisor: Hands = Hands(state)

    def program(self, instance: str) -> Program:
        """The program instead of ``nameko run``."""
        shell = ["/bin/sh", "-c", SOURCED, str(self.state.environments / instance)]
        arguments = [*shell, sys.executable, "-c", SERVICE]
        return Program(name=instance, arguments=arguments, folder=self.state.folder)


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    """Nothing runs yet, and nothing does afterwards."""
    stand = Stand(State(tmp_path / "cluster"))
    yield stand
    stand.supervisor.stop(stand.supervisor.children)
    remove(stand.state.folder)


class TestPort:
    """That another cluster's service took first."""

    def test_is_left_to_the_other(self, stand: Stand, tmp_path: Path) -> None:
        """Whose answer is not taken for ours."""
        write_environment(stand.state, "orders", AROUND, running=False)
        taken = int(read_environment(stand.state, "orders")["HTTP_PORT"])
        other = Child(stand.program("orders"), tmp_path / "other.log")
        try:
            eventually(lambda: answers(taken), seconds=60)
            stand.supervisor.add(stand.program("orders"))
            stand.supervisor.start("orders")

            answer = stand.readiness("orders", AROUND)
            eventually(lambda: stand.readiness("orders", AROUND).ready, seconds=60)
        finally:
            other.stop()

        assert not answer.ready
        port = int(read_environment(stand.state, "orders")["HTTP_PORT"])
        assert port != taken
        assert stand.supervisor.listens("orders", port)
