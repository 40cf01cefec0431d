"""A good client is served while bad ones are slow, large or many."""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
import requests

from tests.integration.gateway.conftest import OpenDoor
from tests.integration.gateway.door import Answer, Door, everything
from tests.support.until import eventually

HOST = b"Host: localhost\r\n"
POST = b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST
BIG = b'{"a": "' + b"x" * 65536 + b'"}'


@pytest.fixture(scope="module")
def narrow_door(open_door: OpenDoor) -> Door:
    """A door for ten connections and patient with each."""
    return open_door(HTTP_MAX_CONNECTIONS=10, HTTP_HEADER_SECONDS=30, HTTP_BODY_SECONDS=30, ECHO_PAUSE_SECONDS=6)


@pytest.fixture
def crowd() -> Iterator[ExitStack]:
    """Connections that are closed after the test."""
    with ExitStack() as connections:
        yield connections


def seconds_until_closed(connection: socket.socket) -> tuple[float, bytes]:
    """How long it stays open from now, and what was said."""
    started = time.monotonic()
    received = everything(connection)
    return time.monotonic() - started, received


class TestSlowClient:
    """A client that takes its time."""

    def test_has_a_second_for_its_headers(self, door: Door) -> None:
        """However busily it drips (slow loris)."""
        with closing(door.connect()) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: local")
            took, received = seconds_until_closed(connection)

        assert 0.5 < took < 3
        assert Answer(received).problem["code"] == "headers_too_slow"

    @pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"])
    def test_has_a_second_for_its_body(self, door: Door, framing: bytes) -> None:
        """With a length or in chunks."""
        with closing(door.connect()) as connection:
            connection.sendall(POST + framing)
            took, received = seconds_until_closed(connection)

        assert 0.5 < took < 4
        assert Answer(received).problem["code"] == "body_too_slow"

    def test_is_closed_in_silence_when_it_says_nothing(self, door: Door) -> None:
        """The time-out of keep-alive."""
        with closing(door.connect()) as connection:
            took, received = seconds_until_closed(connection)

        assert 1 < took < 4
        assert received == b""

    def test_holds_no_worker(self, open_door: OpenDoor, crowd: ExitStack) -> None:
        """Forty slow bodies at four workers delay nobody."""
        door = open_door(HTTP_BODY_SECONDS=60)
        for _ in range(40):
            crowd.enter_context(closing(door.connect())).sendall(POST + b"Content-Length: 100\r\n\r\n{")

        assert requests.post(f"{door.url}/echo", json={"a": 1}, timeout=20).status_code == 201


class TestLargeBody:
    """A body above the limit, or close to it."""

    def test_is_413_by_its_length_alone(self, door: Door) -> None:
        """Before a byte of it has come, and before its 100 Continue."""
        answer = door.raw(POST + b"Expect: 100-continue\r\nContent-Length: 65537\r\n\r\n")

        assert answer.status == 413
        assert answer.problem["code"] == "body_too_large"

    def test_is_413_in_chunks(self, door: Door) -> None:
        """As soon as they are too many."""
        chunks = b"".join(b"1000\r\n" + b"x" * 4096 + b"\r\n" for _ in range(17))

        answer = door.raw(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)

        assert (answer.status, answer.headers["connection"]) == (413, "close")

    def test_is_413_for_a_client_that_sends_it_all(self, door: Door) -> None:
        """The answer is not lost to a reset."""
        for _ in range(20):
            answer = requests.post(
                f"{door.url}/echo", data=BIG * 4, headers={"Content-Type": "application/json"}, timeout=5
            )
            assert answer.status_code == 413

    def test_of_exactly_the_limit_is_read(self, door: Door) -> None:
        """64 KiB are allowed."""
        body = b'{"a": "' + b"x" * (65536 - 9) + b'"}'

        answer = requests.post(f"{door.url}/echo", data=body, headers={"Content-Type": "application/json"}, timeout=5)

        assert answer.status_code == 201

    def test_nobody_asked_for_closes_the_connection(self, door: Door) -> None:
        """A body sent to where there is nothing is not read."""
        answer = door.raw(b"POST /nowhere HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\n{")

        assert (answer.status, answer.headers["connection"]) == (404, "close")


class TestTooManyConnections:
    """More clients than there is room for."""

    def test_are_told_503_while_all_are_busy(self, narrow_door: Door, crowd: ExitStack) -> None:
        """With Retry-After, at once, whatever they ask."""
        for _ in range(10):
            connection = crowd.enter_context(closing(narrow_door.connect()))
            connection.sendall(b"GET /slow HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")
        eventually(lambda: narrow_door.raw(GET + b"Connection: close\r\n\r\n").status == 503, seconds=5)

        answer = narrow_door.raw(GET + b"\r\n")

        assert (answer.status, answer.headers["retry-after"]) == (503, "1")

    def test_make_room_by_who_has_been_silent_longest(self, narrow_door: Door, crowd: ExitStack) -> None:
        """Ten that only hold on keep no good client out for longer than a second."""
        eventually(lambda: narrow_door.raw(GET + b"Connection: close\r\n\r\n").status == 200)
        for begun in (b"", b"GET /he", POST + b"Content-Length: 9\r\n\r\n{", b"", b"\r\n") * 2:
            crowd.enter_context(closing(narrow_door.connect())).sendall(begun)

        eventually(lambda: narrow_door.raw(GET + b"Connection: close\r\n\r\n").status == 200, seconds=10)

        for _ in range(5):
            assert narrow_door.raw(GET + b"Connection: close\r\n\r\n").status == 200

    def test_of_requests_are_told_503_when_too_many_wait(self, open_door: OpenDoor, crowd: ExitStack) -> None:
        """Four workers are busy, two requests may wait, the next one is told so."""
        door = open_door(HTTP_MAX_PENDING=2, ECHO_PAUSE_SECONDS=3)
        for _ in range(6):
            connection = crowd.enter_context(closing(door.connect()))
            connection.sendall(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
        eventually(lambda: requests.get(f"{door.url}/conflict", timeout=5).status_code == 503)

        answer = door.raw(b"GET /conflict HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n")

        assert answer.problem["code"] == "overloaded"
        assert door.raw(GET + b"Connection: close\r\n\r\n").status == 200


class TestNoFilesLeft:
    """A process that can open no more files."""

    def test_is_survived(self, open_door: OpenDoor, crowd: ExitStack) -> None:
        """EMFILE closes who is silent, and the service goes on."""
        door = open_door(HTTP_MAX_CONNECTIONS=5000)
        resource.prlimit(door.process.pid, resource.RLIMIT_NOFILE, (60, 60))

        for _ in range(80):
            crowd.enter_context(closing(door.connect()))

        for _ in range(5):
            assert requests.get(f"{door.url}/healthz", timeout=5).status_code == 200
        assert door.process.poll() is None
        assert "http_accept_failed" in door.log.read_text()


class TestForeignOrigin:
    """A page of another origin (CORS)."""

    def test_is_let_in_where_it_is_configured(self, open_door: OpenDoor) -> None:
        """And only that one, with its preflight."""
        door = open_door(CORS_ORIGINS=["https://shop.example"])
        ours, theirs = {"Origin": "https://shop.example"}, {"Origin": "https://evil.example"}
        asking = {"Access-Control-Request-Method": "POST"}

        preflight = requests.options(f"{door.url}/echo", headers=ours | asking, timeout=5)
        allowed = requests.post(f"{door.url}/echo", json={}, headers=ours, timeout=5)
        refused = requests.options(f"{door.url}/echo", headers=theirs | asking, timeout=5)

        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://shop.example"
        assert allowed.headers["Vary"] == "Origin"
        assert refused.status_code == 405
        assert "Access-Control-Allow-Origin" not in refused.headers
