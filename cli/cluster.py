"""Bringing a cluster up, step by step: servers beside each other, then databases and topology, then the services."""

import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cli import topology
from cli.certificate import certificate_of
from cli.configuration import configuration
from cli.databases import DATABASES, make_databases
from cli.environments import (
    ADMIN_EMAIL,
    Surroundings,
    admin_password,
    database_passwords,
    port_names,
    read_environment,
    write_environment,
)
from cli.files import locked
from cli.progress import Progress
from cli.readiness import Readiness, ask
from cli.servers.endpoints import Endpoints, given_postgres
from cli.servers.ports import Ports, is_free
from cli.servers.private import Recipes, Server
from cli.servers.programs import Program, last_lines, wait_until
from cli.services import OPERATOR, SERVICES, service_classes, service_of
from cli.space import LEAST, require_room, room, told_of_full_disk
from cli.state import CHECKOUT, State
from cli.supervision import MARK, Supervisor
from cli.trouble import Trouble
from services.chassis import migrations
from services.chassis.errors import InvalidInput
from services.inventory import seed as inventory
from services.users import seed as users

ROOM = 256 * 2**20
"""Bytes that must be left on the disk: with less than 200 MB RabbitMQ takes no messages."""
SERVER_SECONDS = 180
READY_SECONDS = 240
HOPELESS_SECONDS = 45
"""After this, waiting ends early when whatever is not ready dies as soon as it is started."""
SOURCED = 'set -a; . "$0"; exec "$@"'
QUIET = "ignore::Warning:nameko.cli.commands"
"""eventlet's deprecation warning at the one place that starts it; everywhere else warnings are shown."""


class Cluster:
    """One cluster and what it takes to have it run; every step may be repeated at any time."""

    def __init__(self, state: State, progress: Progress) -> None:
        state.make()
        self.state = state
        self.progress = progress
        self.supervisor = Supervisor(state)
        self.recipes = Recipes(state.folder)
        self.places = state.folder, self.supervisor.home

    def up(self, scale: Mapping[str, int]) -> None:
        """Everything until every service is ready; raises :class:`Trouble` with what was missing."""
        with told_of_full_disk(*self.places):
            for place in self.places:
                require_room(place, ROOM)
            with locked(self.state.folder / "up.lock"):
                self.supervisor.ensure()
                around = self.servers()
                instances = self.instances(scale)
                for instance in instances:
                    self.start_service(instance, around)
                write_environment(self.state, OPERATOR, around, running=True)
            self.wait_for_services(instances, around)

    def servers(self) -> Surroundings:
        """The servers at work, with databases and topology in place."""
        service_classes()  # before there are threads: eventlet, imported in one, leaves it unable to end
        with ThreadPoolExecutor() as pool:
            databases = pool.submit(self.postgres)
            steps = [pool.submit(self.rabbitmq), pool.submit(self.valkey)]
            urls = databases.result()
            for each in steps:
                each.result()
        return Surroundings(self.recipes.endpoints(), urls, certificate_of(self.state))

    def postgres(self) -> dict[str, str]:
        """PostgreSQL at work, every database at its newest version; answers the services' database URLs."""
        for server in self.recipes.private(rabbitmq=False, valkey=False):
            self.start_server(server)
        admin_url = self.recipes.endpoints(rabbitmq=False, valkey=False).postgres_url
        urls = make_databases(admin_url, database_passwords(self.state))
        for service in DATABASES:
            migrations.upgrade(service, urls[service])
        inventory.seed(urls["inventory"], configuration()["CURRENCY"])
        self.make_administrator(urls["users"])
        self.progress.tell("databases migrated and seeded")
        return urls

    def make_administrator(self, url: str) -> None:
        """The first administrator, with the password that this cluster's secret says even when that was lost."""
        password = admin_password(self.state)
        try:
            made = users.seed(url, ADMIN_EMAIL, password)
        except InvalidInput as error:
            file = self.state.secrets / "admin"
            raise Trouble(f"Nobody could register with the password in {file}. Remove it and try again.") from error
        if not made and not given_postgres() and users.renew(url, ADMIN_EMAIL, password):
            self.progress.tell("the administrator has a new password")

    def rabbitmq(self) -> None:
        """RabbitMQ at work with the services' topology."""
        for server in self.recipes.private(postgres=False, valkey=False):
            self.start_server(server)
        wanted = topology.wanted()
        topology.apply_to(self.endpoints_of_broker(), self.state, wanted)
        self.progress.tell(f"topology applied: {topology.summary(wanted)}")

    def endpoints_of_broker(self) -> Endpoints:
        """Where the broker is."""
        return self.recipes.endpoints(postgres=False, valkey=False)

    def valkey(self) -> None:
        """Valkey at work."""
        for server in self.recipes.private(postgres=False, rabbitmq=False):
            self.start_server(server)

    def start_server(self, server: Server) -> None:
        """The server at work, started if it did not run; elsewhere, if somebody else has taken its port meanwhile."""
        if self.supervisor.runs(server.name) and not server.ready() and self.displaced(server.port_names):
            self.supervisor.stop([server.name])
        if not self.supervisor.runs(server.name):
            with locked(self.state.folder / "supervisor.lock"):
                for program in server.prepare():
                    self.supervisor.add(program)
                    self.supervisor.start(program.name)
        if not wait_until(server.ready, seconds=SERVER_SECONDS, alive=lambda: self.may_get_ready([server.name])):
            log = self.state.logs / f"{server.name}.log"
            raise Trouble(f"{server.name} did not get ready. The end of {log}:\n{last_lines(log)}\n{server.way_out}")
        self.progress.tell(f"{server.name} ready")

    def may_get_ready(self, names: Iterable[str]) -> bool:
        """Whether it makes sense to wait for them: there is room to write, and at least one is alive or quite new."""
        hopeless = self.progress.seconds > HOPELESS_SECONDS and all(map(self.supervisor.dies, names))
        return not hopeless and all(room(place) >= LEAST for place in self.places)

    def instances(self, scale: Mapping[str, int]) -> list[str]:
        """The instances that shall run; those of a service that is not scaled now stay as many as they were."""
        known = [file.name for file in self.state.environments.iterdir() if not file.name.startswith(".")]
        instances = []
        for service in SERVICES:
            further = {name for name in known if name.startswith(f"{service}-")}
            if service in scale:
                wanted = {f"{service}-{number}" for number in range(2, scale[service] + 1)}
                for name in further - wanted:
                    self.supervisor.remove(name)
                    (self.state.environments / name).unlink()
                further = wanted
            instances += [service, *sorted(further)]
        return instances

    def start_service(self, instance: str, around: Surroundings) -> None:
        """The instance on its way; one that runs is started again only when what it is told has changed."""
        running = self.supervisor.runs(instance)
        settled = running and not self.displaced(port_names(instance), [instance])
        if write_environment(self.state, instance, around, running=settled) and running:
            self.supervisor.stop([instance])
        self.supervisor.add(self.program(instance))
        self.supervisor.start(instance)
        self.tell_ports(instance)

    def tell_ports(self, instance: str) -> None:
        """Say so when the first instance of a service is not at its usual ports."""
        service, variables = service_of(instance), read_environment(self.state, instance)
        for usual, name in ((service.http_port, "HTTP_PORT"), (service.https_port, "HTTPS_PORT")):
            if instance == service.name and int(variables[name]) != usual:
                self.progress.tell(f"port {usual} is taken: {instance} is at {variables[name]}")

    def program(self, instance: str) -> Program:
        """How to run the instance: its environment file, then ``nameko run``."""
        nameko = [sys.executable, "-W", QUIET, str(Path(sys.executable).with_name("nameko"))]
        return Program(
            name=instance,
            arguments=[
                *("/bin/sh", "-c", SOURCED, str(self.state.environments / instance)),
                *(*nameko, "run", "--config", "config.yaml", service_of(instance).module),
            ],
            folder=CHECKOUT,
            environment={"PYTHONPATH": str(CHECKOUT), MARK: str(self.state.folder)},
        )

    def displaced(self, port_names: Iterable[str], programs: Iterable[str] | None = None) -> bool:
        """Whether others than these programs listen at one of these ports, or nobody knows which ports they are."""
        known = Ports(self.state.ports).known()
        ports = {known.get(name) for name in port_names}
        taken = {port for port in ports if port and not is_free(port)}
        return None in ports or not taken <= self.supervisor.listening(programs)

    def wait_for_services(self, instances: list[str], around: Surroundings) -> None:
        """Wait until every instance is ready; raises :class:`Trouble` with the reasons and the ends of the logs."""
        waiting = {instance: Readiness(ready=False) for instance in instances}
        deadline = time.monotonic() + READY_SECONDS
        while waiting and time.monotonic() < deadline:
            for instance in list(waiting):
                waiting[instance] = self.readiness(instance, around)
                if waiting[instance].ready:
                    del waiting[instance]
                    self.progress.tell(f"{instance} ready")
            if not self.may_get_ready(waiting):
                break
            time.sleep(0.2)
        if waiting:
            raise Trouble(
                "\n".join(["Not every service got ready."] + [self.complaint(*each) for each in waiting.items()])
            )

    def readiness(self, instance: str, around: Surroundings) -> Readiness:
        """What the instance says of itself; it moves when somebody else took its port before it could."""
        port = int(read_environment(self.state, instance)["HTTP_PORT"])
        if self.supervisor.listens(instance, port):
            return ask(port)
        if self.displaced(port_names(instance), [instance]):
            with locked(self.state.folder / "up.lock"):
                self.start_service(instance, around)
        return Readiness(ready=False, reason="does not answer yet")

    def complaint(self, instance: str, readiness: Readiness) -> str:
        """Why the instance is not ready, with the end of its log."""
        log: Path = self.state.logs / f"{instance}.log"
        return f"\n{instance}: {readiness.reason}. The end of {log}:\n{last_lines(log)}"
