"""Where the two services of :mod:`tests.support.stage` perform: a virtual host, two databases, two real processes.

Each process is a ``nameko run`` as its own broker user, with exactly the permissions the topology gives it. Whoever
hurts one heals it again before the test ends.
"""

import json
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import requests
from amqp import Connection as AmqpConnection
from amqp.basic_message import Message as AmqpMessage
from kombu.connection import Connection
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, create_engine, text

from cli.databases import drop_database, make_database, make_role, session
from cli.environments import broker_url
from cli.readiness import direct_session
from cli.servers.endpoints import Endpoints, with_database
from cli.servers.ports import any_free
from cli.servers.programs import Child, Program, last_lines
from cli.servers.vhosts import Vhost
from cli.state import CHECKOUT
from cli.topology import apply
from services.chassis import inbox, outbox, wire
from services.chassis.database import MESSAGES
from services.chassis.topology import Subscription, Topology, derive
from tests.support.calls import Calls
from tests.support.stage import SEEN, Base, ListenerService, TellerService
from tests.support.until import eventually

assert inbox.INBOX.metadata is outbox.OUTBOX.metadata is MESSAGES

PASSWORD: Final = "a-test-broker-password"
"""Broker users belong to the whole broker, so every test gives them the same one."""

DELAYS_MS: Final = (100, 300, 600)
EVENT: Final = "ThingHappenedEvent"
QUEUE: Final = Subscription("teller", EVENT, "listener", "on_thing_happened").queue
QUIET: Final = "ignore::Warning:nameko.cli.commands"


def an_event(what: str = "x", **fields: Any) -> dict[str, Any]:
    """The payload of an event as the teller would publish it."""
    return {
        "event_id": str(uuid4()),
        "event_type": EVENT,
        "version": 1,
        "occurred_at": datetime.now(UTC).isoformat(),
        "correlation_id": f"test-{secrets.token_hex(4)}",
        "causation_id": None,
        "what": what,
        **fields,
    }


@dataclass(frozen=True)
class Letter:
    """A dead letter as it lies there."""

    body: bytes
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]


class Actor:
    """One service as a process."""

    def __init__(self, theatre: "Theatre", name: str, **environment: str) -> None:
        self.theatre = theatre
        self.name = name
        self.port = any_free(set())
        self.log = theatre.folder / f"{name}-{self.port}.log"
        self.environment = {
            "PYTHONPATH": str(CHECKOUT),
            "AMQP_URI": theatre.amqp_url(name),
            "DATABASE_URL": theatre.database_urls[name],
            "REDIS_URL": theatre.endpoints.redis_url,
            "HTTP_PORT": str(self.port),
            "RETRY_DELAYS_MS": json.dumps(DELAYS_MS),
            **environment,
        }
        self.start()

    def start(self, **environment: str) -> None:
        """On its way, without waiting."""
        nameko = [sys.executable, "-W", QUIET, str(Path(sys.executable).with_name("nameko"))]
        where = f"tests.support.stage:{self.name.capitalize()}Service"
        program = Program(
            name=self.name,
            arguments=[*nameko, "run", "--config", str(self.theatre.config), where],
            folder=CHECKOUT,
            environment=self.environment | environment,
        )
        self.child = Child(program, self.log)

    def readiness(self) -> tuple[int, str]:
        """The status and text of ``/readyz``; 0 while it does not listen."""
        with direct_session() as http:
            try:
                answer = http.get(f"http://127.0.0.1:{self.port}/readyz", timeout=4)
            except requests.RequestException as error:
                return 0, str(error)
        return answer.status_code, answer.text

    @property
    def is_ready(self) -> bool:
        """Whether it says that it is ready; fails with its log when it has ended."""
        assert self.child.alive, last_lines(self.log, 40)
        return self.readiness()[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        page = direct_session().get(f"http://127.0.0.1:{self.port}/metrics", timeout=4).text
        samples = [each for family in text_string_to_metric_families(page) for each in family.samples]
        return sum(each.value for each in samples if each.name == name and labels.items() <= each.labels.items())

    def stop(self, seconds: float = 22) -> tuple[int, float]:
        """Terminate it: the exit code and how long it took."""
        began = time.monotonic()
        self.child.process.send_signal(signal.SIGTERM)
        return self.child.process.wait(seconds), time.monotonic() - began

    def kill(self) -> None:
        """End it as a crash would."""
        self.child.kill()

    def restart(self) -> None:
        """Running and ready again."""
        self.start()
        eventually(lambda: self.is_ready)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within the block the process hangs."""
        self.child.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.child.signal(signal.SIGCONT)

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged so far; fails on a line that is no JSON object."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


class Theatre:
    """Everything the two services need, and what a test wants to know of them."""

    def __init__(self, folder: Path, endpoints: Endpoints, vhost: Vhost) -> None:
        self.folder = folder
        self.endpoints = endpoints
        self.vhost = vhost
        self.topology: Topology = derive([TellerService, ListenerService], DELAYS_MS)
        self.apply_topology()
        self.config = folder / "config.yaml"
        self.config.write_text(config_of_the_stage())
        self.database_urls = {name: self.make_database(name) for name in ("teller", "listener")}
        self.engines = {name: create_engine(url, pool_pre_ping=True) for name, url in self.database_urls.items()}
        for engine in self.engines.values():
            make_tables(engine)
        self.actors: list[Actor] = []

    def open(self, **environment: str) -> None:
        """Both services running and ready."""
        self.teller = self.add("teller", **environment)
        self.listener = self.add("listener", **environment)
        eventually(lambda: self.teller.is_ready and self.listener.is_ready, seconds=30)

    def close(self) -> None:
        """End everything and remove the databases."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda actor: actor.child.stop(), self.actors))
        for engine in self.engines.values():
            engine.dispose()
        with session(self.endpoints.postgres_url) as cursor:
            for url in self.database_urls.values():
                drop_database(cursor, url.rpartition("/")[2])

    def add(self, name: str, **environment: str) -> Actor:
        """One more process of that service, on its way."""
        self.actors.append(Actor(self, name, **environment))
        return self.actors[-1]

    # --- servers

    def apply_topology(self) -> None:
        """Everything the broker must have."""
        passwords = {user.name: PASSWORD for user in self.topology.users}
        apply(self.topology, self.vhost.management, self.vhost.name, passwords)

    def amqp_url(self, user: str) -> str:
        """The virtual host as that broker user."""
        return broker_url(self.vhost.amqp_url, user, PASSWORD)

    def make_database(self, name: str) -> str:
        """A database of the service's own; its URL."""
        database = f"stage_{name}_{secrets.token_hex(4)}"
        with session(self.endpoints.postgres_url) as cursor:
            make_role(cursor, name, PASSWORD)
            make_database(cursor, database, name)
        return with_database(self.endpoints.postgres_url, database, name, PASSWORD)

    # --- what happens

    def calls(self, asker: str = "listener", user: str = "") -> Calls:
        """A caller in the place of ``asker``, as the administrator unless a broker user is named."""
        return Calls(self.amqp_url(user) if user else self.vhost.amqp_url, asker)

    def tell(self, *what: str) -> list[UUID]:
        """Let the teller publish these; the events' ids."""
        with self.calls() as call:
            answer = call("teller.tell", *what)
        assert answer["error"] is None, answer
        return [UUID(each) for each in answer["result"]]

    def ask_over_http(self, how: str) -> tuple[int, Any, float]:
        """What the listener says over HTTP of the teller's answer: status, document, seconds."""
        began = time.monotonic()
        answer = direct_session().get(f"http://127.0.0.1:{self.listener.port}/relay/{how}", timeout=10)
        return answer.status_code, answer.json(), time.monotonic() - began

    def send(
        self, body: object, *, exchange: str = "teller.events", routing_key: str = EVENT, **properties: Any
    ) -> None:
        """Publish anything at all, past every check; ``bytes`` go as they are."""
        payload = body if isinstance(body, bytes) else wire.encode(body)
        defaults = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 2}
        with closing(self.connect()) as connection:
            channel = connection.channel()
            channel.confirm_select()
            channel.basic_publish_confirm(AmqpMessage(payload, **defaults | properties), exchange, routing_key)

    def connect(self, user: str = "") -> AmqpConnection:
        """A bare connection, as the administrator unless a broker user is named."""
        return self.connect_to(self.amqp_url(user) if user else self.vhost.amqp_url)

    @staticmethod
    def connect_to(url: str) -> AmqpConnection:
        """A bare connection to that URL."""
        return Connection(url).transport.establish_connection()

    # --- what can be seen

    def seen(self, *ids: UUID | str) -> int:
        """How often the listener has seen these events, or all of them."""
        where = "WHERE event_id = ANY(CAST(:ids AS uuid[]))" if ids else ""
        return int(self.rows("listener", f"SELECT count(*) FROM seen {where}", ids=[str(each) for each in ids])[0][0])  # noqa: S608

    def waiting(self) -> int:
        """How many rows of the teller's outbox the broker has not taken."""
        return int(self.rows("teller", "SELECT count(*) FROM outbox WHERE published_at IS NULL")[0][0])

    def rows(self, service: str, query: str, **values: Any) -> list[Any]:
        """What a service's database answers."""
        with self.engines[service].begin() as connection:
            return list(connection.execute(text(query), values).all())

    def is_busy(self, service: str, state: str) -> bool:
        """Whether the service's process has a transaction in this state: ``active``, ``idle in transaction``."""
        query = "SELECT 1 FROM pg_stat_activity WHERE application_name = :name AND state = :state"
        return bool(self.rows(service, query, name=f"oms-{service}", state=state))

    def execute(self, service: str, statement: str, **values: Any) -> None:
        """Change a service's database."""
        with self.engines[service].begin() as connection:
            connection.execute(text(statement), values)

    def queued(self, queue: str) -> int:
        """How many messages lie ready in the queue."""
        with closing(self.connect()) as connection:
            return int(connection.channel().queue_declare(queue, passive=True).message_count)

    def take_letter(self, service: str = "listener") -> Letter | None:
        """The oldest dead letter of the service, taken out."""
        with closing(self.connect()) as connection:
            found = connection.channel().basic_get(f"{service}.dead-letters", no_ack=True)
        if found is None:
            return None
        body = found.body.encode() if isinstance(found.body, str) else bytes(found.body)
        return Letter(body, found.properties.get("application_headers", {}), found.properties)

    def letter(self, service: str = "listener", seconds: float = 15) -> Letter:
        """The next dead letter of the service, taken out as soon as it is there."""
        found = eventually(lambda: self.take_letter(service), seconds=seconds)
        assert found is not None
        return found


def config_of_the_stage() -> str:
    """``config.yaml`` with the two services in it."""
    more: Mapping[str, Callable[[str], str]] = {
        "DB_URIS": lambda name: f'  "{name}:Base": ${{DATABASE_URL}}',
        "HTTP_PORTS": lambda name: f"  {name}: ${{HTTP_PORT}}",
    }
    lines = (CHECKOUT / "config.yaml").read_text().splitlines()
    extended = []
    for line in lines:
        extended.append(line)
        key = line.partition(":")[0]
        if key in more:
            extended += [more[key](name) for name in ("teller", "listener")]
    return "\n".join([*extended, ""])


def make_tables(engine: Engine) -> None:
    """The chassis' tables, and the one of the stage."""
    assert Base.metadata.tables.keys() == {"seen"}
    MESSAGES.create_all(engine)
    with engine.begin() as connection:
        connection.execute(text(SEEN))
