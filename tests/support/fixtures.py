"""One running cluster for whoever drives a whole one, and what a journey through it needs to begin.

``tests/conftest.py`` makes these known to every test, so that all folders share one cluster per run. A folder whose
tests change it says so once, in its own ``conftest.py``: an autouse fixture that asks for :func:`holds_together`.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.databases import DATABASES, drop_database, make_database, session
from cli.doctor import examine, subscriptions
from cli.doctor_broker import NO_LETTERS
from cli.doctor_places import MAILBOX, places_of
from cli.doctor_report import Report
from cli.servers.endpoints import Endpoints, with_database
from cli.servers.programs import wait_until
from cli.servers.vhosts import Vhosts
from cli.services import service_classes
from services.chassis.topology import derive
from tests.conftest import PASSWORD
from tests.support.client import Client
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster, Place
from tests.support.operator import Operator
from tests.support.rest import come_to_rest


@contextmanager
def made_place(servers: Endpoints, database_template: Callable[[str], str], folder: Path) -> Iterator[Place]:
    """Where one cluster may live: an empty virtual host and four migrated databases, gone afterwards."""
    vhosts = Vhosts(servers)
    databases = {service: f"saga_{service}_{secrets.token_hex(4)}" for service in DATABASES}
    with session(servers.postgres_url) as cursor:
        for service, database in databases.items():
            make_database(cursor, database, service, database_template(service))
    urls = {
        service: with_database(servers.postgres_url, database, service, PASSWORD)
        for service, database in databases.items()
    }
    try:
        yield Place(servers, vhosts.make_vhost(), urls, folder)
    finally:
        vhosts.remove()
        with session(servers.postgres_url) as cursor:
            for database in databases.values():
                drop_database(cursor, database)


@contextmanager
def made_cluster(place: Place, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Six services as real processes, ready; ended afterwards."""
    cluster = Cluster(place, **(settings or {}))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def cluster(
    servers: Endpoints, database_template: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The cluster of this run."""
    with made_place(servers, database_template, tmp_path_factory.mktemp("cluster")) as place, made_cluster(place) as it:
        yield it


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


@pytest.fixture(scope="module")
def holds_together(cluster: Cluster, operator: Operator) -> Iterator[None]:
    """After each module everything comes to rest, and then every invariant of the saga holds."""
    yield
    cluster.heal()
    check_at_rest(cluster, operator)
    operator.purge_dead_letters()


def check_at_rest(cluster: Cluster, operator: Operator, seconds: float = 45) -> None:
    """Wait until nothing is under way any more; fails unless every invariant of the saga holds then."""
    come_to_rest(cluster, operator, seconds)
    wait_until(lambda: not wrongs(cluster, operator), seconds=60)  # what was just delivered may still be at work
    assert wrongs(cluster, operator) == []


def wrongs(cluster: Cluster, operator: Operator) -> list[str]:
    """Whatever the doctor finds wrong now; what was given up may have been meant to be."""
    report = examined(cluster, operator)
    return [finding.text for finding in report.findings() if finding.check != NO_LETTERS.name]


def examined(cluster: Cluster, operator: Operator) -> Report:
    """What the doctor says of the cluster now, taking everything for quiet."""
    management_url = cluster.place.vhost.management.url
    places = places_of(cluster.place.database_urls, operator.amqp_url, management_url, {MAILBOX: str(cluster.mailbox)})
    return examine(places, derive(service_classes(), cluster.delays_ms), subscriptions(), quiet_seconds=0)
