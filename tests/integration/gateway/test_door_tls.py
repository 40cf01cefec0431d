"""HTTPS beside HTTP: the same service, the same limits, and as little to gain for whoever misbehaves."""

import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Final

import pytest
import requests

from tests.integration.gateway.conftest import ECHO, OpenDoor
from tests.integration.gateway.door import Answer, Door, everything, one_answer
from tests.integration.gateway.secure_door import SecureDoor, opened, secured
from tests.support.certificates import Papers, issue
from tests.support.until import eventually

HOST: Final = b"Host: localhost\r\n"
GET: Final = b"GET /healthz HTTP/1.1\r\n" + HOST
GET_ONCE: Final = GET + b"Connection: close\r\n\r\n"
POST: Final = b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
SLOW: Final = b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n"
HSTS: Final = "Strict-Transport-Security"
HELLO: Final = bytes.fromhex("16030100f8010000f40303")
"""How a TLS client begins."""


def is_closed_after(connection: socket.socket, byte: int) -> bool:
    """Whether the other side closes within a moment of being sent that byte."""
    connection.settimeout(0.2)
    try:
        connection.sendall(bytes([byte]))
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    """What the doors of this module show."""
    return issue(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def door(open_door: OpenDoor, papers: Papers) -> SecureDoor:
    """One that loses patience after a second."""
    return opened(open_door, papers, HTTP_HEADER_SECONDS=1, HTTP_BODY_SECONDS=1, HTTP_KEEPALIVE_SECONDS=1.5)


@pytest.fixture(scope="module")
def narrow_door(open_door: OpenDoor, papers: Papers) -> SecureDoor:
    """One for ten connections, patient with each."""
    return opened(open_door, papers, HTTP_MAX_CONNECTIONS=10, HTTP_HEADER_SECONDS=60, ECHO_PAUSE_SECONDS=6)


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Connections that are closed after the test."""
    with ExitStack() as connections:
        yield connections


class TestHttps:
    """A client that does everything right."""

    def test_is_the_same_application(self, door: SecureDoor) -> None:
        """Behind a certificate that a client can check, for each of its names."""
        secure, plain = (
            door.get("/echo/6f2b4a0e-0000-4000-8000-000000000000"),
            requests.get(f"{door.door.url}/echo/6f2b4a0e-0000-4000-8000-000000000000", timeout=20),
        )

        assert (secure.status_code, secure.json()) == (plain.status_code, plain.json())

    def test_alone_asks_to_be_the_only_way(self, door: SecureDoor) -> None:
        """HSTS stands on every answer over HTTPS, on refusals too, and on none over HTTP."""
        bad = b"GET / HTTP/9\r\n\r\n"
        secure = [door.raw(GET_ONCE), door.raw(b"GET /nowhere HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")]
        plain = [door.door.raw(GET_ONCE), door.door.raw(bad)]

        assert [answer.headers.get(HSTS.lower()) for answer in (*secure, door.raw(bad))] == ["max-age=31536000"] * 3
        assert [answer.headers.get(HSTS.lower()) for answer in plain] == [None, None]

    def test_keeps_a_connection(self, door: SecureDoor) -> None:
        """For several requests."""
        with closing(door.connect()) as connection:
            for _ in range(3):
                connection.sendall(GET + b"\r\n")
                assert one_answer(connection).status == 200

    def test_takes_and_gives_what_is_larger_than_a_record(self, door: SecureDoor) -> None:
        """TLS cuts it into pieces of 16 KiB."""
        body = {"a": "x" * 60_000}

        answer = requests.post(f"{door.url}/echo", json=body, verify=str(door.papers.authority), timeout=20)

        assert (answer.status_code, answer.json()) == (201, body)

    def test_tells_a_client_that_sends_too_much(self, door: SecureDoor) -> None:
        """The answer is not lost to a reset."""
        post = POST + b"Content-Length: 300000\r\n\r\n"

        for _ in range(5):
            with closing(door.connect()) as connection:
                connection.sendall(post)
                with suppress(OSError):
                    connection.sendall(b"x" * 300_000)
                assert one_answer(connection).status == 413

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_speaks_modern_tls(self, door: SecureDoor, version: ssl.TLSVersion) -> None:
        """1.2 and 1.3, and says so with HTTP/1.1 as the protocol above it."""
        trust = door.papers.trust
        trust.minimum_version = trust.maximum_version = version
        trust.set_alpn_protocols(["h2", "http/1.1"])

        with closing(door.connect(trust)) as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"

    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
    def test_refuses_old_tls(self, door: SecureDoor) -> None:
        """1.1 and below."""
        trust = door.papers.trust
        trust.set_ciphers("ALL:@SECLEVEL=0")
        trust.minimum_version, trust.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1

        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            door.connect(trust)

    def test_is_slow_for_nobody_else(self, door: SecureDoor) -> None:
        """A client that is slow after its handshake has the same time as over HTTP."""
        with closing(door.connect()) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")

            assert Answer(everything(connection)).problem["code"] == "headers_too_slow"


class TestStranger:
    """Somebody at the HTTPS port who does not speak TLS, or not to the end."""

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            (b"GET /canary-secret HTTP/1.1\r\n" + HOST + b"\r\n", "HTTP_REQUEST"),
            (b"canary-secret" * 400, "WRONG_VERSION_NUMBER"),
            (b"\x16\x03\x01\x00\x10canary-secret-canary-secret", None),
        ],
        ids=["plain HTTP", "garbage", "a broken hello"],
    )
    def test_is_closed_at_once(self, open_door: OpenDoor, papers: Papers, said: bytes, reason: str | None) -> None:
        """With one line in the log, in which nothing stands that was said."""
        door = opened(open_door, papers, HTTP_HEADER_SECONDS=60)
        with closing(door.knock()) as connection, suppress(ConnectionError):
            connection.sendall(said)
            everything(connection)

        eventually(door.failures)
        assert door.get().status_code == 200
        assert len(door.failures()) == 1
        assert reason in (None, *door.failures())
        assert "canary" not in door.door.log.read_text()

    @pytest.mark.parametrize("said", [b"", HELLO[:3], HELLO], ids=["nothing", "three bytes", "half a hello"])
    def test_has_a_second_for_the_handshake(self, door: SecureDoor, said: bytes) -> None:
        """And is closed then."""
        with closing(door.knock()) as connection:
            connection.sendall(said)
            began = time.monotonic()
            with suppress(ConnectionError):
                everything(connection)

        assert time.monotonic() - began > 0.5
        assert "too slow" in door.failures()

    def test_gains_nothing_by_dripping(self, door: SecureDoor) -> None:
        """The time is for the whole handshake, not for each byte."""
        with closing(door.knock()) as connection:
            rest = iter(HELLO + bytes(200))

            eventually(lambda: is_closed_after(connection, next(rest)), seconds=30)

        assert door.get().status_code == 200

    @pytest.mark.parametrize(
        "said", [b"", b"GET /heal", POST + b"Content-Length: 100\r\n\r\n{"], ids=["nothing", "a head", "a body"]
    )
    def test_who_breaks_the_rules_later_is_closed(self, door: SecureDoor, said: bytes) -> None:
        """A record that was tampered with ends the connection and nothing else."""
        with closing(door.connect()) as connection, socket.socket(fileno=os.dup(connection.fileno())) as beneath:
            connection.sendall(said)
            beneath.sendall(b"\x17\x03\x03\x00\x20" + b"canary-secret".ljust(32))
            beneath.settimeout(20)
            with suppress(ConnectionError):
                everything(beneath)

        assert door.get().status_code == 200
        log = door.door.log.read_text()
        assert [line for line in log.splitlines() if not line.startswith("{")] == []
        assert "http_connection_failed" not in log
        assert "canary" not in log

    def test_who_only_looks_whether_somebody_listens_is_not_news(self, door: SecureDoor) -> None:
        """As load balancers do every few seconds."""
        before = len(door.failures())
        for _ in range(3):
            door.knock().close()

        assert door.get().status_code == 200
        assert len(door.failures()) == before

    def test_keeps_no_good_client_waiting(self, open_door: OpenDoor, papers: Papers, crowd: ExitStack) -> None:
        """Two hundred slow handshakes, which would take a minute."""
        door = opened(open_door, papers, HTTP_HEADER_SECONDS=60)
        for number in range(200):
            crowd.enter_context(closing(door.knock())).sendall(HELLO[: number % len(HELLO)])

        for _ in range(5):
            assert door.get().status_code == 200
        assert requests.get(f"{door.door.url}/healthz", timeout=20).status_code == 200


class TestTooManyConnections:
    """More clients than there is room for, over either protocol."""

    def test_make_room_by_who_has_not_finished_the_handshake(self, narrow_door: SecureDoor, crowd: ExitStack) -> None:
        """They count like any other and go first."""
        eventually(lambda: narrow_door.door.raw(GET_ONCE).status == 200)
        for _ in range(10):
            crowd.enter_context(closing(narrow_door.knock())).sendall(HELLO)

        eventually(lambda: (answer := self.answer(narrow_door)) and answer.status == 200, seconds=20)
        assert narrow_door.door.raw(GET_ONCE).status == 200

    def test_are_told_503_while_all_are_busy(self, narrow_door: SecureDoor, crowd: ExitStack) -> None:
        """After a handshake, or nobody could read it."""

        def refused() -> Answer | None:
            crowd.enter_context(closing(narrow_door.door.connect())).sendall(SLOW)
            answer = self.answer(narrow_door)
            return answer if answer and answer.status == 503 else None

        assert eventually(refused).headers["retry-after"] == "1"

    @staticmethod
    def answer(door: SecureDoor) -> Answer | None:
        """What a new client is told, if anything."""
        try:
            return door.raw(GET_ONCE)
        except OSError:
            return None


class TestStop:
    """A service with HTTPS that is asked to stop."""

    def test_answers_who_was_in_and_closes_both_ports(self, tmp_path: Path, papers: Papers) -> None:
        """With a goodbye; who is not through the handshake is not waited for."""
        (tmp_path / "mood").touch()
        settings = secured(papers, MOOD_FILE=str(tmp_path / "mood"), ECHO_PAUSE_SECONDS=2, HTTP_KEEPALIVE_SECONDS=60)
        with Door(tmp_path, "echo", ECHO, **settings) as plain:
            door = SecureDoor(plain, settings["HTTPS_PORTS"]["echo"], papers)
            running, idle, begun = door.connect(), door.connect(), door.knock()
            running.sendall(SLOW)
            begun.sendall(HELLO)
            idle.sendall(GET + b"\r\n")
            assert one_answer(idle).status == 200  # who came before has been read by now

            plain.terminate()

            answer = Answer(everything(running))
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert plain.process.wait(timeout=8) == 0
            for connection in (running, idle, begun):
                connection.close()
            with pytest.raises(ConnectionError):
                door.knock()


class TestCertificate:
    """What a door shows."""

    def test_is_renewed_without_a_restart(self, open_door: OpenDoor, tmp_path: Path) -> None:
        """The next client sees the new one; one that is broken changes nothing."""
        old, new = issue(tmp_path / "shown"), issue(tmp_path / "new")
        door = opened(open_door, old)
        before = door.papers.trust
        door.connect(before).close()

        old.certificate.write_bytes(new.certificate.read_bytes())  # for a moment it has the other's key
        door.connect(before).close()
        old.key.write_bytes(new.key.read_bytes())
        door.connect(new.trust).close()

        events = [line["event"] for line in door.door.lines() if line["event"].startswith("certificate_")]
        assert events == ["certificate_refused", "certificate_taken"]

    def test_that_cannot_be_used_refuses_to_start(self, tmp_path: Path, papers: Papers) -> None:
        """In one line that names the setting."""
        settings = secured(papers, TLS_KEY=str(tmp_path / "nowhere.pem"))
        door = Door(tmp_path, "echo", ECHO, MOOD_FILE="none", ECHO_PAUSE_SECONDS=1, **settings)

        assert door.process.wait(timeout=30) == 1
        assert "Error: TLS_CERTIFICATE or TLS_KEY cannot be used" in door.log.read_text()
