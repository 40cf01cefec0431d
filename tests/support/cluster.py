"""A whole cluster for the saga's journeys: six real processes, a virtual host and four databases of its own.

The processes are what ``./oms up`` starts - ``nameko run --config config.yaml <module>`` as one broker user and one
database role each - with timers so short that a test can wait for them. Whoever hurts a process or a server heals it
again before the test ends; :meth:`Cluster.heal` does so for whatever is down.
"""

import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg2
import redis
from psycopg2.extras import RealDictCursor

from cli.databases import session
from cli.environments import broker_url
from cli.readiness import ask
from cli.servers.endpoints import Endpoints, with_database
from cli.servers.ports import LOOPBACK, any_free
from cli.servers.programs import Child, Program, last_lines, wait_until
from cli.servers.vhosts import Vhost
from cli.services import SERVICES, service_classes, service_of
from cli.state import CHECKOUT
from cli.topology import apply
from services.chassis.topology import Subscription, derive, read_wiring
from services.inventory.seed import seed as seed_catalogue
from services.users.seed import seed as seed_admin
from tests.support.certificates import issue

READY_SECONDS: Final = 120
ADMIN_EMAIL: Final = "admin@example.com"
ADMIN_PASSWORD: Final = "an-administrator-of-the-tests"
BROKER_PASSWORD: Final = "a-test-broker-password"
JWT_SECRET: Final = "a-secret-of-the-saga-tests-0123456789"
QUIET: Final = "ignore::Warning:nameko.cli.commands"
NAMEKO: Final = (sys.executable, "-W", QUIET, str(Path(sys.executable).with_name("nameko")))

SHORT: Final[Mapping[str, str]] = {
    "RETRY_DELAYS_MS": "[200, 500, 1000]",
    "ORDER_DEADLINE_SECONDS": "300",
    "ORDER_DEADLINE_SWEEP_SECONDS": "0.5",
    "SETTLEMENT_FIRST_SECONDS": "3",
    "SETTLEMENT_SWEEP_SECONDS": "0.5",
    "PROCESSOR_SWEEP_SECONDS": "1",
    "PROCESSOR_LEASE_SECONDS": "3",
    "PROCESSOR_ANSWER_SECONDS": "2",
    "PROCESSOR_SLOW_SECONDS": "1.2",
    "PROCESSOR_RETRY_SECONDS": "0.1",
    "REFUND_RETRY_SECONDS": "1",
    "ORDER_CACHE_SECONDS": "1",
    "PASSWORD_HASHERS": "2",
    "HEARTBEAT": "4",
    "ACCESS_TOKEN_SECONDS": "7200",
    "RATE_LOGIN": "0",
    "RATE_LOGIN_FAILURES": "0",
    "RATE_REGISTRATION": "0",
    "RATE_REFRESH": "0",
    "RATE_ORDER": "0",
    "OPEN_ORDERS_PER_USER": "0",
    "EVENTS_POLL_SECONDS": "0.2",
}
"""Every timer so short that a test can wait for it; the deadline of an order is moved by the tests that need it.

Only a token lives longer than usual, as long as the slowest run of all tests. Nobody is limited: all customers of the
tests come from one address, and the races want as many as they can get."""


@dataclass(frozen=True)
class Place:
    """Where a cluster may live: the servers, a virtual host and the four databases, migrated and empty."""

    endpoints: Endpoints
    vhost: Vhost
    database_urls: Mapping[str, str]
    """Of each service's own role."""
    folder: Path


class Cluster:
    """Six services as processes; ``settings`` are variables of ``config.yaml`` for all of them."""

    def __init__(self, place: Place, **settings: str) -> None:
        self.place = place
        self.settings = {**SHORT, **settings}
        self.broker = place.vhost.broker
        self.mailbox = place.folder / "mailbox"
        self.children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.papers = issue(place.folder / "tls")
        self.https_port = any_free(set())
        self.changes: dict[str, Mapping[str, str]] = {}
        """What an instance is told besides, and told again when it is healed."""
        self.runners: dict[str, Sequence[str]] = {}
        """What an instance is run by instead of ``nameko``, likewise."""
        wanted = derive(service_classes(), self.delays_ms)
        self.queues = [queue.name for queue in wanted.queues]
        passwords = {user.name: BROKER_PASSWORD for user in wanted.users}
        apply(wanted, place.vhost.management, place.vhost.name, passwords)
        seed_catalogue(place.database_urls["inventory"])
        seed_admin(place.database_urls["users"], ADMIN_EMAIL, ADMIN_PASSWORD)

    @property
    def delays_ms(self) -> list[int]:
        """At which distances a failed event comes again."""
        return [int(part) for part in self.settings["RETRY_DELAYS_MS"].strip("[]").split(",")]

    @property
    def url(self) -> str:
        """Where the gateway is."""
        return self.url_of("gateway")

    @property
    def https_url(self) -> str:
        """Where the first gateway is over HTTPS, for whoever trusts ``papers.authority``."""
        return f"https://localhost:{self.https_port}"

    def url_of(self, instance: str) -> str:
        """Where the instance answers."""
        return f"http://{LOOPBACK}:{self.ports[instance]}"

    # --- processes

    def up(self) -> None:
        """All six at work."""
        self.start(*SERVICES)

    def start(
        self,
        *services: str,
        instances: int = 1,
        environment: Mapping[str, str] | None = None,
        runner: Sequence[str] = NAMEKO,
        ready: bool = True,
    ) -> None:
        """These services at work, ``instances`` of each; those that run go on as they are, without ``environment``."""
        names = [name for service in services for name in instance_names(service, instances)]
        for name in names:
            if not self.runs(name):
                self.changes[name] = environment or {}
                self.runners[name] = runner
                self.spawn(name)
        if ready:
            self.wait_ready(*names)

    def spawn(self, instance: str) -> None:
        """The instance on its way; does not wait for it."""
        if instance not in self.ports:
            self.ports[instance] = any_free(set(self.ports.values()))
        runner = self.runners.get(instance, NAMEKO)
        program = Program(
            name=instance,
            arguments=[*runner, "run", "--config", "config.yaml", service_of(instance).module],
            folder=CHECKOUT,
            environment=self.environment(instance),
        )
        self.children[instance] = Child(program, self.log(instance))

    def environment(self, instance: str) -> dict[str, str]:
        """What the instance is told."""
        service = service_of(instance).name
        variables = {
            "PYTHONPATH": str(CHECKOUT),
            "AMQP_URI": broker_url(self.place.vhost.amqp_url, service, BROKER_PASSWORD),
            "REDIS_URL": self.place.endpoints.redis_url,
            "HTTP_HOST": LOOPBACK,
            "HTTP_PORT": str(self.ports[instance]),
            "JWT_SECRET": JWT_SECRET,
            "MAILBOX_DIR": str(self.mailbox),
        }
        if service in self.place.database_urls:
            variables["DATABASE_URL"] = self.place.database_urls[service]
        if instance == "gateway":
            variables["HTTPS_PORT"] = str(self.https_port)
            variables |= {"TLS_CERTIFICATE": str(self.papers.certificate), "TLS_KEY": str(self.papers.key)}
        return {**variables, **self.settings, **self.changes.get(instance, {})}

    def log(self, instance: str) -> Path:
        """Where the instance logs."""
        return self.place.folder / f"{instance}.log"

    def runs(self, instance: str) -> bool:
        """Whether there is such a process."""
        return instance in self.children and self.children[instance].alive

    @property
    def pids(self) -> dict[str, int]:
        """Which process each instance is, if it lives."""
        return {name: child.process.pid for name, child in self.children.items() if child.alive}

    def wait_ready(self, *instances: str, seconds: float = READY_SECONDS) -> None:
        """Wait until these, or all that run, are ready; fails with the ends of their logs."""
        waiting = list(instances or self.children)

        def all_ready() -> bool:
            waiting[:] = [name for name in waiting if not ask(self.ports[name]).ready]
            return not waiting

        if not wait_until(all_ready, seconds=seconds, alive=lambda: all(self.runs(name) for name in waiting)):
            raise AssertionError("\n".join(map(self.complaint, waiting)))

    def complaint(self, instance: str) -> str:
        """What the instance says of itself, with the end of its log."""
        state = ask(self.ports[instance]).reason if self.runs(instance) else "has ended"
        return f"{instance}: {state}\n{last_lines(self.log(instance))}"

    def kill(self, *instances: str) -> None:
        """SIGKILL, as a crash would."""
        for instance in instances:
            self.children[instance].kill()

    def stop(self, *instances: str) -> dict[str, int]:
        """SIGTERM to all of these at once; their exit codes."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: self.children[name].stop(), instances))
        return {name: self.children[name].process.returncode for name in instances}

    def freeze(self, instance: str) -> None:
        """Let the process hang: its connections stay open and it answers nothing."""
        self.children[instance].signal(signal.SIGSTOP)

    def thaw(self, instance: str) -> None:
        """Let a frozen process go on."""
        self.children[instance].signal(signal.SIGCONT)

    def heal(self) -> None:
        """Every service at work as it was first told, none besides; frozen ones go on."""
        changed = {name for name, told in self.changes.items() if told}
        changed |= {name for name, runner in self.runners.items() if runner != NAMEKO}
        self.stop(*changed)
        self.changes.clear()
        self.runners.clear()
        for name in [name for name in self.children if name not in SERVICES]:
            self.stop(name)
            del self.children[name]
        for name in self.children:
            self.thaw(name)
        self.up()

    def down(self) -> None:
        """End every process, in good order where that is possible."""
        self.stop(*self.children)

    # --- the databases and the broker, seen from outside

    def database_url(self, service: str) -> str:
        """The superuser's URL of the service's database."""
        database = self.place.database_urls[service].rpartition("/")[2]
        return with_database(self.place.endpoints.postgres_url, database)

    def rows(self, service: str, query: str, *values: object) -> list[dict[str, Any]]:
        """What the service's database says."""
        with (
            session(self.database_url(service)) as cursor,
            cursor.connection.cursor(cursor_factory=RealDictCursor) as named,
        ):
            named.execute(query, values or None)
            return [dict(row) for row in named.fetchall()]

    def execute(self, service: str, statement: str, *values: object) -> None:
        """Change the service's database behind its back."""
        with session(self.database_url(service)) as cursor:
            cursor.execute(statement, values or None)

    @contextmanager
    def held(self, service: str, statement: str, *values: object) -> Iterator[None]:
        """A transaction of somebody else that has done this and keeps its locks while the block runs."""
        connection = psycopg2.connect(self.database_url(service).replace("+psycopg2", "", 1))
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
            yield
        finally:
            connection.close()

    def expire(self, order_id: str, after_seconds: float = 0.0) -> None:
        """Let the deadline of an order that is Pending be over so many seconds from now."""
        moved = """UPDATE orders SET deadline_at = clock_timestamp() + make_interval(secs => %s)
            WHERE id = %s AND status = 'Pending'"""
        self.execute("orders", moved, after_seconds, order_id)

    def flush_redis(self) -> None:
        """Let Redis forget everything."""
        with redis.Redis.from_url(self.place.endpoints.redis_url) as client:
            client.flushall()

    def subscriptions(self) -> list[Subscription]:
        """Which handler gets which event, as the code says."""
        return [each for service in service_classes() for each in read_wiring(service).subscriptions]

    def subscription(self, handler: str) -> Subscription:
        """The one of that handler: ``inventory.on_order_created``."""
        return next(each for each in self.subscriptions() if f"{each.service}.{each.method}" == handler)


def instance_names(service: str, instances: int) -> list[str]:
    """``orders``, ``orders-2`` and so on."""
    return [service, *(f"{service}-{number}" for number in range(2, instances + 1))]
