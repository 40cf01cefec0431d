"""Files, places and ports of a cluster."""

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cli.files import secret, write_atomic
from cli.servers.endpoints import amqp_url, given_postgres, given_rabbitmq, vhost_of, with_database, with_vhost
from cli.servers.place import LONGEST, fits, servers_folder, stand_in_of
from cli.servers.ports import LOOPBACK, Ports, is_free
from cli.state import CHECKOUT
from cli.trouble import Trouble


class TestFiles:
    """Nothing is half written and no secret is open."""

    def test_are_readable_by_their_owner_only(self, tmp_path: Path) -> None:
        """Mode 0600, whatever the umask."""
        write_atomic(tmp_path / "file", "text")

        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600

    def test_leave_no_draft_behind(self, tmp_path: Path) -> None:
        """Only the file itself is there afterwards."""
        write_atomic(tmp_path / "file", "one")
        write_atomic(tmp_path / "file", "two")

        assert [file.name for file in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_text() == "two"

    def test_keep_a_secret(self, tmp_path: Path) -> None:
        """The same at every call, another for another name, and long enough."""
        first = secret(tmp_path / "secrets", "jwt", 48)

        assert secret(tmp_path / "secrets", "jwt", 48) == first
        assert secret(tmp_path / "secrets", "other", 48) != first
        assert len(first.encode()) >= 48

    @pytest.mark.parametrize("left", [b"", b"\n", b"\0\0\0\0", b"\xff\xfe", b"half\0\0"])
    def test_mend_a_broken_secret(self, tmp_path: Path, left: bytes) -> None:
        """What a power cut leaves in a file is no password."""
        (tmp_path / "jwt").write_bytes(left)

        made = secret(tmp_path, "jwt")

        assert len(made) > 24
        assert made.isprintable()
        assert secret(tmp_path, "jwt") == made

    def test_keep_a_secret_that_a_person_chose(self, tmp_path: Path) -> None:
        """Blanks and umlauts are no damage."""
        (tmp_path / "admin").write_text("Grüße an alle\n")

        assert secret(tmp_path, "admin") == "Grüße an alle"


class TestPlace:
    """Servers live where they can."""

    def test_is_the_folder_itself_when_it_fits(self, tmp_path: Path) -> None:
        """Short, plain and open to the account that must pass through it."""
        assert fits(Path("/var/tmp"))  # noqa: S108 - only looked at

    @pytest.mark.parametrize("name", ["with space", "quote'", "x" * LONGEST])
    def test_is_elsewhere_when_the_path_is_awkward(self, tmp_path: Path, name: str) -> None:
        """A stand-in that fits, recorded in the folder, the same at every call."""
        wanted = tmp_path / name

        place = servers_folder(wanted)

        try:
            assert place == servers_folder(wanted) == Path((wanted / "place").read_text().strip())
            assert fits(place)
        finally:
            place.rmdir()

    def test_is_made_anew_when_its_record_is_gone(self, tmp_path: Path) -> None:
        """Databases whose passwords went with a removed folder are of no use."""
        wanted = tmp_path / "with space"
        place = servers_folder(wanted)
        (place / "old").touch()
        (wanted / "place").unlink()

        servers_folder(wanted)

        try:
            assert not (place / "old").exists()
        finally:
            place.rmdir()

    def test_refuses_what_somebody_else_put_there(self, tmp_path: Path) -> None:
        """A folder that others may write to is not ours."""
        wanted = tmp_path / "with space"
        wanted.mkdir()
        (wanted / "place").touch()
        stand_in = stand_in_of(wanted.resolve())
        stand_in.mkdir()
        stand_in.chmod(0o777)

        try:
            with pytest.raises(Trouble, match="somebody else"):
                servers_folder(wanted)
        finally:
            stand_in.rmdir()


class TestPorts:
    """Ports stay unless they are taken."""

    def test_stay_the_same(self, tmp_path: Path) -> None:
        """A second call, also of another process, gives the same port."""
        port = Ports(tmp_path / "ports.json").take("postgres")

        assert Ports(tmp_path / "ports.json").take("postgres") == port

    def test_differ_by_name(self, tmp_path: Path) -> None:
        """Nobody listens yet, and still no two get the same."""
        ports = Ports(tmp_path / "ports.json")

        assert len({ports.take(f"server-{number}") for number in range(20)}) == 20

    def test_change_when_somebody_took_one(self, tmp_path: Path) -> None:
        """Also when the preferred one is taken."""
        ports = Ports(tmp_path / "ports.json")
        port = ports.take("orders")

        with socket.socket() as other:
            other.bind((LOOPBACK, port))
            other.listen()

            assert not is_free(port)
            assert ports.take("orders", preferred=port) != port
        assert ports.take("orders", preferred=port) == port

    def test_differ_between_two_that_start_at_once(self, tmp_path: Path) -> None:
        """Another cluster has chosen the port a moment ago, and nothing listens there yet."""
        program = (
            "import sys; from pathlib import Path; from cli.servers.ports import Ports\n"
            "print(Ports(Path(sys.argv[1])).take('orders'), flush=True); sys.stdin.read()"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / "others.json"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with other:
            assert other.stdout
            port = int(other.stdout.readline())
            ports = Ports(tmp_path / "ports.json")

            assert ports.take("orders", preferred=port) != port
            other.communicate()
            assert ports.take("orders", preferred=port) == port

    @pytest.mark.parametrize("left", [b"", b'{"postgres": ', b"[]", b'{"postgres": null}', b"\0\0", b"\xff"])
    def test_survive_a_broken_file(self, tmp_path: Path, left: bytes) -> None:
        """What cannot be read is chosen again."""
        (tmp_path / "ports.json").write_bytes(left)

        port = Ports(tmp_path / "ports.json").take("postgres")

        assert json.loads((tmp_path / "ports.json").read_text()) == {"postgres": port}

    def test_are_missed_with_advice(self, tmp_path: Path) -> None:
        """Nobody can ask a server of which nobody knows where it is."""
        with pytest.raises(Trouble, match=r"port of postgres\. Run \./oms up"):
            Ports(tmp_path / "ports.json").of("postgres")


class TestUrls:
    """URLs are put together without losing anything."""

    def test_escape_what_they_hold(self) -> None:
        """Passwords and virtual hosts may hold anything."""
        url = amqp_url("127.0.0.1:5672", "a", "p@s/s", "/")

        assert url == "amqp://a:p%40s%2Fs@127.0.0.1:5672/%2F"
        assert vhost_of(url) == "/"
        assert vhost_of(with_vhost(url, "a b")) == "a b"

    def test_change_database_and_role(self) -> None:
        """Host, port and options stay."""
        url = "postgresql+psycopg2://admin:secret@db:5433/postgres?sslmode=require"

        assert with_database(url, "orderservice_db", "orders", "p:w") == (
            "postgresql+psycopg2://orders:p%3Aw@db:5433/orderservice_db?sslmode=require"
        )

    def test_take_the_given_servers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Plain PostgreSQL URLs get the driver, the broker's credentials serve its management too."""
        monkeypatch.setitem(os.environ, "OMS_POSTGRES_URL", "postgres://a:b@h/d")
        monkeypatch.setitem(os.environ, "OMS_RABBITMQ_URL", "amqp://u:p%40@h/v")
        monkeypatch.setitem(os.environ, "OMS_RABBITMQ_MANAGEMENT_URL", "http://h:15672/")

        given = given_rabbitmq()

        assert given_postgres() == "postgresql+psycopg2://a:b@h/d"
        assert given
        assert (given[1].url, given[1].user, given[1].password) == ("http://h:15672", "u", "p@")

    def test_want_both_of_the_broker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The AMQP URL alone is not enough to administer it."""
        monkeypatch.setitem(os.environ, "OMS_RABBITMQ_URL", "amqp://u:p@h/v")
        monkeypatch.delenv("OMS_RABBITMQ_MANAGEMENT_URL", raising=False)

        with pytest.raises(Trouble, match="belong together"):
            given_rabbitmq()
