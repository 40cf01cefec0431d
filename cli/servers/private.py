"""The three private servers as children of this process: what the tests start and stop."""

import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from cli.broker import Broker
from cli.files import make_folder
from cli.servers import endpoints
from cli.servers.endpoints import Endpoints
from cli.servers.place import remove, servers_folder
from cli.servers.ports import Ports
from cli.servers.postgres import Postgres
from cli.servers.programs import Child, Program, last_lines, wait_until
from cli.servers.rabbitmq import RabbitMQ
from cli.servers.valkey import Valkey
from cli.trouble import Trouble

READY_SECONDS = 60


class Server(Protocol):
    """What every kind of private server offers."""

    name: str
    port_names: tuple[str, ...]

    @property
    def way_out(self) -> str:
        """What to do when its files are damaged."""

    def prepare(self) -> list[Program]:
        """Make what it needs on disk; answers what to start, in this order."""

    def ready(self) -> bool:
        """Whether it does its work."""


class Recipes:
    """The servers of one folder, given ones left out: how to prepare and reach them, not whether they run.

    ``durable=False`` trades safety against a power cut for speed; only tests may.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        place = servers_folder(folder)
        secrets = make_folder(folder / "secrets")
        ports = Ports(folder / "ports.json")
        self.postgres = Postgres(place, secrets, ports, durable=durable)
        self.rabbitmq = RabbitMQ(place, secrets, ports, durable=durable)
        self.valkey = Valkey(place, secrets, ports, durable=durable)

    def private(self, *, postgres: bool = True, rabbitmq: bool = True, valkey: bool = True) -> list[Server]:
        """Those of the wanted servers for which no URL is given in the environment."""
        wanted: list[Server] = []
        if postgres and not endpoints.given_postgres():
            wanted.append(self.postgres)
        if rabbitmq and not endpoints.given_rabbitmq():
            wanted.append(self.rabbitmq)
        if valkey and not endpoints.given_redis():
            wanted.append(self.valkey)
        return wanted

    def endpoints(self, *, postgres: bool = True, rabbitmq: bool = True, valkey: bool = True) -> Endpoints:
        """Where the wanted servers are, private or given."""
        amqp_url, management = "", endpoints.Management("", "", "")
        if rabbitmq:
            amqp_url, management = endpoints.given_rabbitmq() or (self.rabbitmq.url, self.rabbitmq.management)
        return Endpoints(
            postgres_url=(endpoints.given_postgres() or self.postgres.url) if postgres else "",
            amqp_url=amqp_url,
            management=management,
            redis_url=(endpoints.given_redis() or self.valkey.url) if valkey else "",
        )


class Servers:
    """Starts, hurts, mends and stops private servers; ``given`` ones from the environment are used and never touched.

    The names are ``postgres``, ``rabbitmq`` and ``valkey``. A server that is restarted keeps its port and its content.
    """

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        self.folder = folder
        self.recipes = Recipes(folder, durable=durable)
        self.logs = make_folder(folder / "logs")
        self.servers: dict[str, Server] = {}
        self.children: dict[str, list[Child]] = {}

    def start(self, *, postgres: bool = True, rabbitmq: bool = True, valkey: bool = True) -> Endpoints:
        """Start the wanted servers and wait until all of them work."""
        wanted = self.recipes.private(postgres=postgres, rabbitmq=rabbitmq, valkey=valkey)
        with ThreadPoolExecutor() as pool:
            prepared = list(pool.map(lambda server: server.prepare(), wanted))
        try:
            for server, programs in zip(wanted, prepared, strict=True):
                self.servers[server.name] = server
                self.children[server.name] = [self.spawn(program) for program in programs]
            for server in wanted:
                self.wait(server.name)
        except BaseException:
            self.stop()
            raise
        found = self.recipes.endpoints(postgres=postgres, rabbitmq=rabbitmq, valkey=valkey)
        if rabbitmq:
            Broker(found.management).make_vhost(endpoints.vhost_of(found.amqp_url))
        return found

    def spawn(self, program: Program) -> Child:
        """The program as a child of this process."""
        return Child(program, self.logs / f"{program.name}.log")

    def wait(self, name: str) -> None:
        """Wait until the server works; raises :class:`Trouble` with the end of its log when it does not."""
        children = self.children[name]
        if not wait_until(
            self.servers[name].ready, seconds=READY_SECONDS, alive=lambda: all(child.alive for child in children)
        ):
            raise Trouble(f"{name} did not get ready. The end of its log:\n{last_lines(children[-1].log)}")

    def kill(self, name: str) -> None:
        """End the server as a power cut would; clients see their connections break."""
        for child in reversed(self.children[name]):
            child.kill()

    def restart(self, *names: str) -> None:
        """Start these servers again, stopping first what runs, and wait until all work, who may need one another.

        They die with the thread that calls this, as every :class:`Child` does.
        """
        for name in names:
            programs = [child.program for child in self.children[name]]
            self.end(name)
            self.children[name] = [self.spawn(program) for program in programs]
        for name in names:
            self.wait(name)

    def end(self, name: str) -> None:
        """Stop one server in good order; :meth:`restart` brings it back."""
        for child in reversed(self.children[name]):
            child.stop()

    def freeze(self, name: str) -> None:
        """Let the server hang: connections stay open and nothing answers."""
        self.each(name, lambda child: child.signal(signal.SIGSTOP))

    def thaw(self, name: str) -> None:
        """Let a frozen server go on."""
        self.each(name, lambda child: child.signal(signal.SIGCONT))

    def each(self, name: str, act: Callable[[Child], None]) -> None:
        """Do something to every process of the server."""
        for child in self.children[name]:
            act(child)

    def stop(self) -> None:
        """Stop all of them."""
        children: Sequence[Child] = [child for name in self.children for child in reversed(self.children[name])]
        with ThreadPoolExecutor() as pool:
            list(pool.map(Child.stop, children))
        self.children.clear()

    def remove(self) -> None:
        """End all of them at once and remove their files."""
        for name in self.children:
            self.kill(name)
        self.children.clear()
        remove(self.folder)
