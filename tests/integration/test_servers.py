"""The private servers do what the tests and ``up`` ask of them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis
from kombu.connection import Connection

from cli.databases import DATABASES, make_databases
from cli.servers.endpoints import Endpoints, with_database
from cli.servers.private import Servers
from cli.servers.vhosts import Vhost
from tests.conftest import PASSWORD


def plain(url: str) -> str:
    """The URL as psycopg2 wants it."""
    return url.replace("+psycopg2", "")


def cookie_of(servers: Servers) -> Path:
    """The file with the secret that opens Erlang's distribution, which is as good as a shell."""
    return servers.recipes.rabbitmq.home / ".erlang.cookie"


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[Servers]:
    """Servers that one test may do anything to."""
    servers = Servers(tmp_path / "a folder", durable=False)
    yield servers
    servers.remove()


class TestServers:
    """All three work, on the loopback address, behind passwords."""

    def test_every_server_answers(self, servers: Endpoints) -> None:
        """A query, a connection and a ping go through."""
        with psycopg2.connect(plain(servers.postgres_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('fsync')")
            assert cursor.fetchone() == ("off",)
        with Connection(servers.amqp_url, connect_timeout=5) as broker:
            broker.ensure_connection(max_retries=1)
        with redis.Redis.from_url(servers.redis_url) as client:
            assert client.ping()

    def test_only_the_loopback_address_is_open(self, servers: Endpoints, private_servers: Servers) -> None:
        """No server of ours listens where another machine could reach it."""
        listening = {
            connection.laddr.ip
            for children in private_servers.children.values()
            for child in children
            for connection in psutil.Process(child.process.pid).net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }

        assert listening <= {"127.0.0.1", "::1"}

    def test_a_wrong_password_is_refused(self, servers: Endpoints) -> None:
        """Neither PostgreSQL nor Valkey lets a stranger in."""
        with pytest.raises(psycopg2.OperationalError, match="authentication"):
            psycopg2.connect(plain(with_database(servers.postgres_url, "postgres", "postgres", "wrong")))
        stranger = redis.Redis.from_url(servers.redis_url.replace("redis://:", "redis://:x"))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()

    def test_there_is_no_guest(self, servers: Endpoints) -> None:
        """The account everybody knows does not exist."""
        from cli.broker import Broker  # noqa: PLC0415

        names = {user["name"] for user in Broker(servers.management).get("users")}

        assert "guest" not in names

    def test_erlangs_cookie_cannot_be_guessed(self, servers: Endpoints, private_servers: Servers) -> None:
        """The one that Erlang makes for itself is twenty capital letters out of a small generator."""
        cookie = cookie_of(private_servers)

        assert len(cookie.read_text()) == 32
        assert cookie.stat().st_mode & 0o077 == 0


class TestDatabases:
    """Each service's role reaches its own database and no other."""

    def test_a_role_is_locked_out_of_the_others_databases(self, postgres_url: str) -> None:
        """The role orders connects to its own database and is refused at each other."""
        passwords = dict.fromkeys(DATABASES, PASSWORD)  # the roles are those of every other test on this server
        make_databases(postgres_url, passwords)
        urls = make_databases(postgres_url, passwords)

        psycopg2.connect(plain(urls["orders"])).close()
        for service in set(DATABASES) - {"orders"}:
            url = with_database(postgres_url, DATABASES[service], "orders", passwords["orders"])
            with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                psycopg2.connect(plain(url))


class TestTrouble:
    """A test can do to a server what the world does."""

    def test_a_killed_server_comes_back_with_its_content(self, own_servers: Servers) -> None:
        """What was committed before SIGKILL is there after a restart, at the same address."""
        url = plain(own_servers.start(rabbitmq=False, valkey=False).postgres_url)
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept (id int)")

        own_servers.kill("postgres")
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(url)
        own_servers.restart("postgres")

        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM kept")
            assert cursor.fetchone() == (0,)

    def test_a_frozen_server_hangs_until_it_is_thawed(self, own_servers: Servers) -> None:
        """A frozen Valkey keeps its connections and answers nothing."""
        url = own_servers.start(postgres=False, rabbitmq=False).redis_url
        with redis.Redis.from_url(url, socket_timeout=0.3, retry=None) as client:
            client.set("a", "1")

            own_servers.freeze("valkey")
            began = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                client.get("a")
            own_servers.thaw("valkey")

            assert time.monotonic() - began < 5
            assert client.get("a") == b"1"

    def test_lost_passwords_are_replaced(self, own_servers: Servers) -> None:
        """After a power cut that emptied every secret all servers let us in again, and what was stored is there."""
        before = own_servers.start()
        with psycopg2.connect(plain(before.postgres_url)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept (id int)")
        own_servers.stop()
        for file in (*(own_servers.folder / "secrets").iterdir(), cookie_of(own_servers)):
            file.chmod(0o600)
            file.write_bytes(b"")

        after = own_servers.start()

        assert after.management.password != before.management.password
        with psycopg2.connect(plain(after.postgres_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM kept")
        with pytest.raises(psycopg2.OperationalError, match="authentication"):
            psycopg2.connect(plain(before.postgres_url))

    def test_stopping_leaves_nothing(self, own_servers: Servers) -> None:
        """Every process is gone after ``stop``."""
        own_servers.start(rabbitmq=False)
        pids = [child.process.pid for children in own_servers.children.values() for child in children]

        own_servers.stop()

        assert not any(psutil.pid_exists(pid) for pid in pids)


class TestVhosts:
    """Each test has a broker to itself."""

    def test_queues_are_quorum_queues_by_default(self, vhost: Vhost) -> None:
        """A queue declared without a type is a quorum queue."""
        with Connection(vhost.amqp_url) as connection:
            connection.SimpleQueue("anything", queue_opts={"durable": True}).close()

        queue = vhost.broker.get("queues", vhost.name, "anything")

        assert queue["type"] == "quorum"


class TestFreshDatabase:
    """A migrated database costs a test a moment."""

    def test_two_databases_are_apart(self, fresh_database: Callable[[str], str]) -> None:
        """What one test writes no other sees."""
        first, second = fresh_database("users"), fresh_database("users")

        assert first != second
        psycopg2.connect(plain(second)).close()
