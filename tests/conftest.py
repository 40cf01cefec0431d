"""Real servers for every test that needs one: started once per run in a folder of their own, gone afterwards.

A server that cannot be started is an error, never a skip. With OMS_POSTGRES_URL, OMS_RABBITMQ_URL (and
OMS_RABBITMQ_MANAGEMENT_URL) or OMS_REDIS_URL in the environment, that server is used instead and left alone otherwise.
"""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, settings

from cli.databases import drop_database, make_database, make_role, session
from cli.servers.endpoints import Endpoints, given_redis, with_database
from cli.servers.private import Servers
from cli.servers.vhosts import Vhost, Vhosts

pytest_plugins = ["tests.support.fixtures"]

PASSWORD = "a-test-database-password"

# A busy machine is slow, which says nothing about a property.
settings.register_profile("oms", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("oms")


@pytest.fixture(scope="session")
def private_servers() -> Iterator[Servers]:
    """Starts, kills, restarts and freezes the servers of this run; a test that hurts one heals it again."""
    folder = Path(tempfile.mkdtemp(prefix="oms-test-"))
    folder.chmod(0o711)  # PostgreSQL's own account passes through it
    servers = Servers(folder, durable=False)
    try:
        yield servers
    finally:
        servers.remove()


@pytest.fixture(scope="session")
def servers(private_servers: Servers) -> Endpoints:
    """Where the three servers are, and the administrators' ways in."""
    return private_servers.start()


@pytest.fixture(scope="session")
def postgres_url(servers: Endpoints) -> str:
    """The superuser's URL."""
    return servers.postgres_url


@pytest.fixture
def redis_url(servers: Endpoints) -> str:
    """The URL of a Redis-compatible server, emptied for this test when it is a private one."""
    if not given_redis():
        with redis.Redis.from_url(servers.redis_url) as client:
            client.flushall()
    return servers.redis_url


@pytest.fixture
def rabbitmq(servers: Endpoints) -> Iterator[Vhosts]:
    """The broker; the virtual hosts it makes for this test are removed after it."""
    vhosts = Vhosts(servers)
    yield vhosts
    vhosts.remove()


@pytest.fixture
def vhost(rabbitmq: Vhosts) -> Vhost:
    """One empty virtual host for this test."""
    return rabbitmq.make_vhost()


@pytest.fixture(scope="session")
def database_template(postgres_url: str) -> Iterator[Callable[[str], str]]:
    """The name of a migrated database of that service, made at the first call; never connect to it."""
    templates: dict[str, str] = {}

    def template_of(service: str) -> str:
        if service not in templates:
            templates[service] = make_template(postgres_url, service)
        return templates[service]

    yield template_of
    with session(postgres_url) as cursor:
        for database in templates.values():
            drop_database(cursor, database)


def make_template(postgres_url: str, service: str) -> str:
    """A new database at the service's latest migration, owned by the service's role."""
    from services.chassis.migrations import upgrade  # noqa: PLC0415 - only tests with a database need it

    database = f"template_{service}_{secrets.token_hex(4)}"
    with session(postgres_url) as cursor:
        make_role(cursor, service, PASSWORD)
        make_database(cursor, database, service)
    upgrade(service, with_database(postgres_url, database, service, PASSWORD))
    return database


@pytest.fixture
def fresh_database(postgres_url: str, database_template: Callable[[str], str]) -> Iterator[Callable[[str], str]]:
    """``fresh_database("orders")`` is the URL of a new, migrated, empty database, as the service's own role."""
    made: list[str] = []

    def fresh(service: str) -> str:
        database = f"test_{service}_{secrets.token_hex(6)}"
        with session(postgres_url) as cursor:
            make_database(cursor, database, service, database_template(service))
        made.append(database)
        return with_database(postgres_url, database, service, PASSWORD)

    yield fresh
    with session(postgres_url) as cursor:
        for database in made:
            drop_database(cursor, database)
