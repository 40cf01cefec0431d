"""Doing to a server what goes wrong with one: no memory, no disk, no connections. Each is over when its block ends."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import psycopg2
import redis

from cli.databases import session
from cli.servers.private import Servers
from cli.servers.programs import run, unprivileged
from cli.trouble import Trouble
from tests.support.cluster import Cluster

ALARMS: Final = {
    "memory": (["set_vm_memory_high_watermark", "absolute", "1"], ["set_vm_memory_high_watermark", "0.8"]),
    "disk": (["set_disk_free_limit", "1000000GB"], ["set_disk_free_limit", "200MB"]),
}
"""What sets off the broker's alarm, and what ends it."""

TABLESPACE: Final = "small"
SMALL_DISK_MB: Final = 96
PAGE_BYTES: Final = 4096
ROUNDS: Final = 3

_FULL: Final = """
    CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"""
_TABLES: Final = """
    SELECT schemaname || '.' || tablename AS name FROM pg_tables WHERE schemaname IN ('public', 'processor')"""


@contextmanager
def alarmed(servers: Servers, alarm: str) -> Iterator[None]:
    """The broker takes no messages: it says that it lacks memory, or disk."""
    broker = servers.children["rabbitmq"][-1].program
    control = str(Path(broker.arguments[0]).with_name("rabbitmqctl"))
    begin, end = ALARMS[alarm]
    try:
        run([control, *begin], environment=broker.environment)
        yield
    finally:
        run([control, *end], environment=broker.environment)


@contextmanager
def without_connections(cluster: Cluster) -> Iterator[None]:
    """Somebody has taken every connection to PostgreSQL that a service could have; an administrator's are left."""
    url = cluster.place.database_urls["users"].replace("+psycopg2", "", 1)
    with ExitStack() as taken:
        for _ in range(ROUNDS):  # while the services are thrown out they come back
            disconnect(cluster)
            with suppress(psycopg2.OperationalError):
                while True:
                    taken.callback(psycopg2.connect(url).close)
        yield


def disconnect(cluster: Cluster) -> None:
    """Throw the services out of their databases."""
    with session(cluster.place.endpoints.postgres_url) as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'oms-%'")


@contextmanager
def refusing_rows(cluster: Cluster) -> Iterator[None]:
    """PostgreSQL says of every new row what it says on a full disk, the error code included."""
    for service in cluster.place.database_urls:
        cluster.execute(service, _FULL)
        for table in cluster.rows(service, _TABLES):
            cluster.execute(
                service,
                f"CREATE TRIGGER disk_is_full BEFORE INSERT ON {table['name']} EXECUTE FUNCTION disk_is_full()",
            )
    try:
        yield
    finally:
        for service in cluster.place.database_urls:
            cluster.execute(service, "DROP FUNCTION disk_is_full CASCADE")


@contextmanager
def on_full_disk(cluster: Cluster, folder: Path) -> Iterator[None]:
    """All tables lie on a small disk without a free byte. Raises Trouble where none can be mounted: it needs root."""
    with small_disk(folder), moved(cluster, folder):
        ballast = folder / "ballast"
        fill(ballast)
        try:
            yield
        finally:
            ballast.unlink()


def fill(ballast: Path) -> None:
    """Take whatever room is left, also what is given back meanwhile."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(PAGE_BYTES))


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own in the memory, for PostgreSQL's account."""
    account = unprivileged()
    if account is None:
        raise Trouble("a real full disk needs root, to mount one")
    options = f"size={SMALL_DISK_MB}m,mode=700,uid={account.uid},gid={account.gid}"
    folder.mkdir()
    run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)])
    try:
        yield
    finally:
        run(["umount", "--lazy", str(folder)])


@contextmanager
def moved(cluster: Cluster, folder: Path) -> Iterator[None]:
    """All tables and indexes of the cluster lie in that folder."""
    home = folder / "tables"
    home.mkdir()
    account = unprivileged()
    if account:
        os.chown(home, account.uid, account.gid)
    with session(cluster.place.endpoints.postgres_url) as cursor:
        cursor.execute(f"CREATE TABLESPACE {TABLESPACE} LOCATION '{home}'")
    try:
        move(cluster, "pg_default", TABLESPACE)
        yield
    finally:
        move(cluster, TABLESPACE, "pg_default")
        with session(cluster.place.endpoints.postgres_url) as cursor:
            cursor.execute(f"DROP TABLESPACE {TABLESPACE}")


def move(cluster: Cluster, source: str, target: str) -> None:
    """Move every table and index, each as soon as nobody uses it."""
    for service in cluster.place.database_urls:
        for kind in ("TABLE", "INDEX"):
            cluster.execute(service, f"ALTER {kind} ALL IN TABLESPACE {source} SET TABLESPACE {target}")


@contextmanager
def full_redis(cluster: Cluster) -> Iterator[None]:
    """Redis has all its memory in use, and may forget nothing."""
    with redis.Redis.from_url(cluster.place.endpoints.redis_url) as client:
        before = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "maxmemory")}
        try:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            yield
        finally:
            for name, value in before.items():
                client.config_set(name, value)
