"""A cluster whose every service reaches every server it uses by a line of its own, hurt one by one or together."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from cli.services import SERVICES, service_classes
from services.chassis.cache import Cache
from services.chassis.database import Database
from services.chassis.denials import Denials
from tests.support.cluster import Cluster
from tests.support.lines import NONE, Fault, Line

POSTGRES: Final = "postgres"
RABBITMQ: Final = "rabbitmq"
VALKEY: Final = "valkey"
SERVERS: Final = (POSTGRES, RABBITMQ, VALKEY)
VARIABLES: Final = {POSTGRES: "DATABASE_URL", RABBITMQ: "AMQP_URI", VALKEY: "REDIS_URL"}
CLEAN_GATEWAY: Final = "gateway-2"
"""A second gateway without lines: by it one sees a hurt service from a healthy door."""


def uses() -> dict[str, tuple[str, ...]]:
    """Which servers each service uses, as its class says."""
    found = {}
    for name, service in zip(SERVICES, service_classes(), strict=True):
        extensions = [type(each) for each in vars(service).values()]
        database = any(issubclass(each, Database) for each in extensions)
        copies = any(issubclass(each, Cache | Denials) for each in extensions)
        wanted = {POSTGRES: database, RABBITMQ: True, VALKEY: copies}
        found[name] = tuple(server for server, used in wanted.items() if used)
    return found


class Wiring:
    """The lines of one cluster, and switching them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.lines: dict[tuple[str, str], Line] = {}
        for service, servers in uses().items():
            told = cluster.environment(service)
            for server in servers:
                port = urlsplit(told[VARIABLES[server]]).port
                assert port is not None, told[VARIABLES[server]]
                self.lines[service, server] = Line(port)

    def environment(self, service: str) -> dict[str, str]:
        """What makes the service use its lines."""
        told = self.cluster.environment(service)
        return {
            VARIABLES[server]: line.url(told[VARIABLES[server]])
            for (owner, server), line in self.lines.items()
            if owner == service
        }

    def to(self, server: str) -> list[Line]:
        """Every line to that server."""
        return [line for (_, target), line in self.lines.items() if target == server]

    def users_of(self, server: str) -> list[str]:
        """The services that have a line to that server."""
        return [service for service, target in self.lines if target == server]

    def hurt(self, fault: Fault, *servers: str) -> None:
        """Let all lines to these servers have the fault."""
        for line in self._to(servers):
            line.hurt(fault)

    def heal(self) -> None:
        """Let all lines be well."""
        self.hurt(NONE, *SERVERS)

    def forget(self, *servers: str) -> None:
        """Let all lines to these servers forget the connections they carry; new ones are well."""
        for line in self._to(servers):
            line.forget()

    def _to(self, servers: Iterable[str]) -> list[Line]:
        return [line for server in servers for line in self.to(server)]

    def close(self) -> None:
        """End all lines."""
        for line in self.lines.values():
            line.close()


@contextmanager
def wired(cluster: Cluster) -> Iterator[Wiring]:
    """Within the block every service is a process that uses lines; the clean gateway runs beside them."""
    wiring = Wiring(cluster)
    environments = {service: wiring.environment(service) for service in SERVICES}
    cluster.stop(*cluster.children)
    try:
        for service, environment in environments.items():
            cluster.changes[service] = environment
            cluster.spawn(service)
        cluster.start("gateway", instances=2)
        cluster.wait_ready()
        yield wiring
    finally:
        wiring.heal()
        cluster.heal()
        wiring.close()
