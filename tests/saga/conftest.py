"""One running cluster for all journeys, and what each of them needs to begin."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.databases import drop_database, make_database, session
from cli.servers.endpoints import Endpoints, with_database
from cli.servers.programs import wait_until
from cli.servers.vhosts import Vhosts
from tests.conftest import PASSWORD
from tests.support.client import Client
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster, Place
from tests.support.invariants import check_inside, check_quiet, read_books
from tests.support.operator import Operator
from tests.support.rest import come_to_rest

SERVICES_WITH_DATABASE = ("users", "orders", "inventory", "payments")


@pytest.fixture(scope="session")
def cluster(
    servers: Endpoints, database_template: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Six services as real processes, ready."""
    vhosts = Vhosts(servers)
    databases = {service: f"saga_{service}_{secrets.token_hex(4)}" for service in SERVICES_WITH_DATABASE}
    with session(servers.postgres_url) as cursor:
        for service, database in databases.items():
            make_database(cursor, database, service, database_template(service))
    urls = {
        service: with_database(servers.postgres_url, database, service, PASSWORD)
        for service, database in databases.items()
    }
    folder: Path = tmp_path_factory.mktemp("cluster")
    cluster = Cluster(Place(servers, vhosts.make_vhost(), urls, folder))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        vhosts.remove()
        with session(servers.postgres_url) as cursor:
            for database in databases.values():
                drop_database(cursor, database)


@pytest.fixture(scope="session")
def admin(cluster: Cluster) -> Client:
    """The first administrator."""
    return Client.login(cluster.url, ADMIN_EMAIL, ADMIN_PASSWORD)


@pytest.fixture(scope="session")
def customer(cluster: Cluster) -> Client:
    """Somebody who buys."""
    return Client.register(cluster.url, firstName="Ada", phone="+4915112345678")


@pytest.fixture
def product(admin: Client) -> str:
    """Something with three on the shelf."""
    return admin.add_product(stock=3)


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Operator:
    """Somebody with the broker's keys."""
    return Operator(cluster)


@pytest.fixture(scope="module", autouse=True)
def _holds_together(cluster: Cluster, operator: Operator) -> Iterator[None]:
    """After each module everything comes to rest, and then every invariant of the saga holds."""
    yield
    cluster.heal()
    come_to_rest(cluster, operator)
    wait_until(lambda: not wrongs(cluster, operator), seconds=10)  # what was just delivered may still be at work
    assert wrongs(cluster, operator) == []
    operator.purge_dead_letters()


def wrongs(cluster: Cluster, operator: Operator) -> list[str]:
    """Whatever breaks an invariant now."""
    given_up = [(letter.message_id, str(letter.headers.get("x-oms-handler"))) for letter in operator.dead_letters()]
    books = read_books(cluster.rows, cluster.mailbox)
    return [*check_inside(cluster.rows), *check_quiet(books, cluster.subscriptions(), given_up)]
