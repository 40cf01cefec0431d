"""Where it happens: private servers and a cluster with several instances of every service, both gone afterwards."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Final

from cli.databases import DATABASES, make_databases, session
from cli.doctor_places import Places
from cli.servers.private import Servers
from cli.servers.vhosts import Vhosts
from cli.services import SERVICES, service_classes
from services.chassis.migrations import upgrade
from tests.support.cluster import Cluster, Place, instance_names
from tests.support.lines import Line
from tests.support.operator import Operator
from tests.support.wiring import Wiring

GIVEN: Final = ("OMS_POSTGRES_URL", "OMS_RABBITMQ_URL", "OMS_RABBITMQ_MANAGEMENT_URL", "OMS_REDIS_URL")
PASSWORD: Final = "a-chaos-database-password"
SETTINGS: Final[Mapping[str, str]] = {
    "ACCESS_TOKEN_SECONDS": "86400",  # whoever buys does so until the end
}
"""What the cluster is told besides the short timers of the tests."""


@dataclass
class Ground:
    """The servers and the cluster, and what is down because somebody took it down.

    The second instance of each service reaches the servers by lines that can be hurt.
    """

    folder: Path
    servers: Servers
    cluster: Cluster
    instances: int
    lines: dict[str, Line] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    """Instances and servers; a server also while it hangs."""
    supervision: Lock = field(default_factory=Lock)
    """Held by whoever starts an instance again, or looks whether one has ended."""

    @cached_property
    def operator(self) -> Operator:
        """Somebody with the broker's keys."""
        return Operator(self.cluster)

    @property
    def doors(self) -> list[str]:
        """The URLs of all gateways."""
        return [self.cluster.url_of(name) for name in instance_names("gateway", self.instances)]

    @property
    def places(self) -> Places:
        """Where the doctor looks."""
        cluster = self.cluster
        return Places(
            cluster.place.database_urls, self.operator.amqp_url, cluster.broker.management, mailbox=cluster.mailbox
        )

    @property
    def targets(self) -> dict[str, Sequence[str]]:
        """What may be hurt, by group."""
        return {
            "instances": [name for service in SERVICES for name in instance_names(service, self.instances)],
            "servers": list(self.servers.children),
            "lines": list(self.lines),
            "services": list(SERVICES),
            "owners": list(DATABASES),
            "everybody": ["everybody"],
        }

    def up(self, wiring: Wiring) -> None:
        """Every instance at work."""
        self.lines = {
            f"{instance_names(service, 2)[1]} to {server}": line
            for (service, server), line in wiring.lines.items()
            if self.instances > 1
        }
        for service in SERVICES:
            for name in instance_names(service, self.instances)[1:2]:
                self.cluster.changes[name] = wiring.environment(service)
                self.cluster.spawn(name)
        self.cluster.start(*SERVICES, instances=self.instances)

    @property
    def is_served(self) -> bool:
        """Whether every server is at work."""
        return self.down.isdisjoint(self.servers.children)

    def keep(self) -> None:
        """Bring what may explain a wrong together: every server's log and every table beside the services' logs."""
        shutil.copytree(self.servers.logs, self.folder, dirs_exist_ok=True)
        for service in self.cluster.place.database_urls:
            with session(self.cluster.database_url(service)) as cursor:
                cursor.execute("SELECT quote_ident(schemaname) || '.' || quote_ident(relname) FROM pg_stat_user_tables")
                for (table,) in cursor.fetchall():
                    with (self.folder / f"{service}.{table}.csv").open("w") as file:
                        cursor.copy_expert(f"COPY {table} TO STDOUT WITH CSV HEADER", file)


@contextmanager
def made(folder: Path, instances: int) -> Iterator[Ground]:
    """The ground with everything at work; logs and mailbox are in ``folder``, which stays."""
    for name in GIVEN:
        os.environ.pop(name, None)  # a server of somebody else's is not ours to hurt
    service_classes()  # before there are threads: eventlet, imported in one, leaves it unable to end
    place = Path(tempfile.mkdtemp(prefix="oms-chaos-servers-"))
    place.chmod(0o711)  # PostgreSQL's own account passes through it
    servers = Servers(place, durable=False)
    with ExitStack() as stack:
        stack.callback(servers.remove)
        endpoints = servers.start()
        urls = make_databases(endpoints.postgres_url, dict.fromkeys(DATABASES, PASSWORD))
        for service in DATABASES:
            upgrade(service, urls[service])
        cluster = Cluster(Place(endpoints, Vhosts(endpoints).make_vhost(), urls, folder), **SETTINGS)
        cluster.start(*SERVICES, ready=False)
        wiring = stack.enter_context(closing(Wiring(cluster)))
        stack.callback(cluster.down)
        ground = Ground(folder, servers, cluster, instances)
        ground.up(wiring)
        yield ground
