"""An order's events over real sockets; the services behind the gateway are made up."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from uuid import UUID, uuid4

import pytest
import requests

from tests.integration.gateway.door import Answer, Door, a_token, check_problem, everything, one_answer
from tests.integration.gateway.fake_peers import GROWING, KNOWN, LEAVING, LONG, OVER
from tests.support.until import eventually

FAKED = ["-m", "nameko", "run", "tests.integration.gateway.fake_peers:FakedGateway", "--config"]
LAST_CHUNK = b"\r\n0\r\n\r\n"


CROWD = 200


@pytest.fixture
def wide_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway with four workers and room for many, with little patience."""
    with Door(tmp_path_factory.mktemp("gateway"), "gateway", FAKED, HTTP_SOCKET_SECONDS=1) as door:
        yield door


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway with four workers, room for eight streams, and short breath."""
    settings = {"EVENTS_HEARTBEAT_SECONDS": 0.2, "EVENTS_MAX_STREAMS": 8, "EVENTS_MAX_STREAMS_PER_USER": 3}
    with Door(tmp_path_factory.mktemp("gateway"), "gateway", FAKED, **settings) as door:
        yield door


def begin(
    gateway: Door, order_id: str, *, token: str | None = None, last: int | None = None, version: str = "1.1"
) -> socket.socket:
    """A connection on which the events of this order were asked for."""
    fields = [f"GET /api/order/{order_id}/events HTTP/{version}", "Host: localhost"]
    fields.append(f"Authorization: Bearer {token or a_token()}")
    if last is not None:
        fields.append(f"Last-Event-ID: {last}")
    connection = gateway.connect()
    connection.sendall("\r\n".join([*fields, "", ""]).encode())
    return connection


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """All that comes until these bytes have come."""
    received = b""
    while end not in received:
        some = connection.recv(65536)
        assert some, received
        received += some
    return received


def ids(received: bytes) -> list[int]:
    """Which events came."""
    return [int(number) for number in re.findall(rb"^id: (\d+)\r?$", received, re.MULTILINE)]


def open_streams(gateway: Door) -> float:
    """How many streams the gateway says are open."""
    text = requests.get(f"{gateway.url}/metrics", timeout=5).text
    return float(re.findall(r"^oms_event_streams (\S+)$", text, re.MULTILINE)[0])


class TestStream:
    """One client's stream."""

    def test_brings_each_entry_as_it_comes_and_ends_with_the_last(self, gateway: Door) -> None:
        """In chunks, on a connection that can be used again."""
        with closing(begin(gateway, GROWING)) as connection:
            received = read_until(connection, LAST_CHUNK)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            next_answer = one_answer(connection)

        answer = Answer(received)
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["transfer-encoding"] == "chunked"
        assert ids(received) == [1, 2, 3, 4]
        assert b'data: {"number":4,"event":"news"}\n\n' in received
        assert next_answer.status == 200

    def test_goes_on_after_the_last_id(self, gateway: Door) -> None:
        """At whichever instance; then there is nothing to come again for."""
        with closing(begin(gateway, OVER, last=2)) as connection:
            received = read_until(connection, LAST_CHUNK)
        with closing(begin(gateway, OVER, last=4)) as connection:
            nothing = one_answer(connection)

        assert ids(received) == [3, 4]
        assert (nothing.status, nothing.body) == (204, b"")

    def test_says_that_it_lives(self, gateway: Door) -> None:
        """A comment after each silence."""
        with closing(begin(gateway, KNOWN)) as connection:
            assert b"id: 1\n" in read_until(connection, b"3\r\n:\n\n\r\n")
            read_until(connection, b"3\r\n:\n\n\r\n")

    def test_ends_with_the_connection_for_old_clients(self, gateway: Door) -> None:
        """HTTP/1.0 knows no chunks."""
        with closing(begin(gateway, OVER, version="1.0")) as connection:
            received = everything(connection)

        assert ids(received) == [1, 2, 3, 4]
        assert "transfer-encoding" not in Answer(received).headers

    def test_is_for_those_who_may_see_the_order(self, gateway: Door) -> None:
        """401 and 404, as everywhere."""
        path = f"{gateway.url}/api/order/{uuid4()}/events"

        nobody = requests.get(path, timeout=5)
        somebody = requests.get(path, headers={"Authorization": f"Bearer {a_token()}"}, timeout=5)

        check_problem(nobody.json(), 401, nobody.headers)
        check_problem(somebody.json(), 404, somebody.headers)

    def test_ends_when_the_token_is_taken_back(self, gateway: Door) -> None:
        """Within seconds."""
        with closing(begin(gateway, KNOWN, token=a_token(UUID(LEAVING)))) as connection:
            assert ids(read_until(connection, LAST_CHUNK)) == [1]

    def test_ends_when_the_token_expires(self, gateway: Door) -> None:
        """The client needs another one to come again."""
        with closing(begin(gateway, KNOWN, token=a_token(expires_in=2))) as connection:
            assert ids(read_until(connection, LAST_CHUNK)) == [1]


class TestStreams:
    """Many of them."""

    def test_hold_no_worker_and_are_as_many_as_may_be(self, gateway: Door) -> None:
        """Eight of them leave all four workers free; the ninth is 503, one user's fourth 429."""
        eventually(lambda: open_streams(gateway) == 0, "no stream left of those before")
        with ExitStack() as crowd:
            one = a_token()
            for token in (one, one, one, *(a_token() for _ in range(4))):
                read_until(crowd.enter_context(closing(begin(gateway, KNOWN, token=token))), b"id: 1\n")
            mine = one_answer(crowd.enter_context(closing(begin(gateway, KNOWN, token=one))))
            read_until(crowd.enter_context(closing(begin(gateway, KNOWN))), b"id: 1\n")
            ninth = one_answer(crowd.enter_context(closing(begin(gateway, KNOWN))))
            me = requests.get(
                f"{gateway.url}/api/auth/me", headers={"Authorization": f"Bearer {a_token()}"}, timeout=10
            )

            assert (mine.problem["code"], ninth.problem["code"]) == ("too_many_streams", "overloaded")
            assert (mine.status, ninth.status, me.status_code) == (429, 503, 200)
            assert open_streams(gateway) == 8

        eventually(lambda: open_streams(gateway) == 0, "no stream left")
        assert "Traceback" not in gateway.log.read_text()

    def test_are_cut_off_from_who_does_not_read(self, wide_gateway: Door) -> None:
        """After HTTP_SOCKET_SECONDS, once the buffers between the two are full."""
        with closing(begin(wide_gateway, LONG)) as connection:
            read_until(connection, b"id: 1\n")

            eventually(lambda: open_streams(wide_gateway) == 0, "the stream is cut off", seconds=45)

    def test_may_be_hundreds(self, wide_gateway: Door) -> None:
        """None is in another's way, nor in that of a request, nor in that of a stop."""
        with ExitStack() as crowd:
            for _ in range(0, CROWD, 50):
                some = [crowd.enter_context(closing(begin(wide_gateway, KNOWN))) for _ in range(50)]
                for connection in some:
                    read_until(connection, b"id: 1\n")
            assert open_streams(wide_gateway) == CROWD
            headers = {"Authorization": f"Bearer {a_token()}"}
            assert requests.get(f"{wide_gateway.url}/api/auth/me", headers=headers, timeout=10).status_code == 200

            wide_gateway.terminate()

            assert wide_gateway.process.wait(timeout=10) == 0

    def test_end_when_the_gateway_stops(self, wide_gateway: Door) -> None:
        """Each properly, so that its client goes on elsewhere."""
        with ExitStack() as crowd:
            connections = [crowd.enter_context(closing(begin(wide_gateway, KNOWN))) for _ in range(3)]
            for connection in connections:
                read_until(connection, b"id: 1\n")

            wide_gateway.terminate()

            assert all(everything(connection).endswith(b"0\r\n\r\n") for connection in connections)
            assert wide_gateway.process.wait(timeout=8) == 0
