"""The line of the fault tests does to a connection what it says, and to no other."""

import socket
import socketserver
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from time import monotonic

import pytest

from tests.support.lines import (
    BLACK_HOLE,
    RESET,
    SILENT_DOWN,
    SILENT_UP,
    TRICKLE,
    Fault,
    Line,
    Way,
)
from tests.support.until import eventually

A_MOMENT = 0.2
PATIENCE = 10


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it gets, and remembers it."""

    heard: bytes = b""

    def handle(self) -> None:
        """Until the client has nothing more to say."""
        with suppress(ConnectionError):
            while data := self.request.recv(65536):
                Echo.heard += data
                self.request.sendall(data)


@pytest.fixture
def line() -> Iterator[Line]:
    """A line to an echo."""
    Echo.heard = b""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Line(server.server_address[1]) as line:
            yield line
        server.shutdown()


@pytest.fixture
def client(line: Line) -> Iterator[socket.socket]:
    """A connection that has been used."""
    with connect(line) as client:
        assert echo(client, b"hello") == b"hello"
        Echo.heard = b""
        yield client


def connect(line: Line) -> socket.socket:
    """A new connection."""
    return socket.create_connection(("127.0.0.1", line.port), timeout=PATIENCE)


def echo(client: socket.socket, data: bytes) -> bytes:
    """What comes back of it."""
    client.sendall(data)
    return take(client, len(data))


def take(client: socket.socket, count: int) -> bytes:
    """That many bytes, or those that came before the end."""
    found = b""
    while len(found) < count and (data := client.recv(count - len(found))):
        found += data
    return found


def hears_nothing(client: socket.socket) -> bool:
    """Whether nothing comes for a moment."""
    client.settimeout(A_MOMENT)
    try:
        return client.recv(1) is None
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)


class TestLine:
    """A line that is well."""

    def test_carries_what_is_sent(self, client: socket.socket) -> None:
        """All of it, in order, more than any buffer holds."""
        data = bytes(range(256)) * 5_000
        sender = Thread(target=client.sendall, args=(data,), daemon=True)
        sender.start()
        assert take(client, len(data)) == data

    def test_tells_the_end_of_one_direction(self, client: socket.socket) -> None:
        """A client that has said everything still gets its answer, and then the end."""
        client.sendall(b"bye")
        client.shutdown(socket.SHUT_WR)
        assert take(client, 100) == b"bye"

    def test_forgets_who_has_left(self, line: Line, client: socket.socket) -> None:
        """Nothing is kept of a connection that ended."""
        client.close()
        eventually(lambda: line.open_connections == 0)

    def test_puts_itself_into_an_address(self, line: Line) -> None:
        """Credentials and path stay."""
        here = f"127.0.0.1:{line.port}"
        assert line.url("amqp://me:a%2Fb@localhost:5672/%2Fx") == f"amqp://me:a%2Fb@{here}/%2Fx"
        assert line.url("redis://localhost:1/0") == f"redis://{here}/0"

    def test_resets_a_client_of_a_server_that_is_away(self) -> None:
        """It does not hang."""
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            port = nobody.getsockname()[1]
        with Line(port) as line, pytest.raises(ConnectionResetError), connect(line) as client:
            client.recv(1)


class TestReset:
    """Connections that break."""

    def test_ends_every_connection(self, line: Line, client: socket.socket) -> None:
        """As long as it lasts new ones, too."""
        line.hurt(RESET)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with pytest.raises(ConnectionResetError), connect(line) as late:
            late.recv(1)

        line.heal()
        with connect(line) as again:
            assert echo(again, b"back") == b"back"

    def test_once_spares_new_connections(self, line: Line, client: socket.socket) -> None:
        """Only those that were there."""
        line.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        with connect(line) as again:
            assert echo(again, b"back") == b"back"


class TestSilence:
    """Bytes that do not arrive."""

    def test_upwards_keeps_what_the_client_says(self, line: Line, client: socket.socket) -> None:
        """It arrives when the line heals."""
        line.hurt(SILENT_UP)
        client.sendall(b"late")
        assert hears_nothing(client)
        assert Echo.heard == b""

        line.heal()
        assert take(client, 4) == b"late"

    def test_downwards_keeps_what_the_server_says(self, line: Line, client: socket.socket) -> None:
        """The server has heard, and its answer arrives when the line heals."""
        line.hurt(SILENT_DOWN)
        client.sendall(b"late")
        eventually(lambda: Echo.heard == b"late")
        assert hears_nothing(client)

        line.heal()
        assert take(client, 4) == b"late"

    def test_both_ways_meets_new_connections(self, line: Line) -> None:
        """They are taken, and nothing comes of them before the line heals."""
        line.hurt(BLACK_HOLE)
        with connect(line) as client:
            client.sendall(b"late")
            assert hears_nothing(client)

            line.heal()
            assert take(client, 4) == b"late"

    def test_may_begin_in_the_middle_of_a_message(self, line: Line, client: socket.socket) -> None:
        """The rest arrives when the line heals."""
        line.hurt(Fault(down=Way(silent_after=3)))
        client.sendall(b"0123456789")
        assert take(client, 3) == b"012"
        assert hears_nothing(client)

        line.heal()
        assert take(client, 7) == b"3456789"

    def test_makes_a_sender_wait_in_the_end(self, line: Line, client: socket.socket) -> None:
        """What the network does not take stays with the sender, as far as its buffers reach."""
        line.hurt(SILENT_UP)
        client.settimeout(A_MOMENT)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(50_000_000))

    def test_keeps_even_the_end_of_a_connection(self, line: Line, client: socket.socket) -> None:
        """The server does not learn that the client left."""
        line.hurt(BLACK_HOLE)
        client.close()
        assert line.open_connections == 1

        line.heal()
        eventually(lambda: line.open_connections == 0)

    def test_forgotten_connections_stay_silent(self, line: Line, client: socket.socket) -> None:
        """New ones are well."""
        line.hurt(BLACK_HOLE)
        line.forget()
        client.sendall(b"lost")
        with connect(line) as again:
            assert echo(again, b"back") == b"back"
        assert hears_nothing(client)


class TestSlowness:
    """Bytes that take their time."""

    def test_a_delay_is_that_of_each_message(self, line: Line, client: socket.socket) -> None:
        """It does not add up over those that travel together."""
        line.hurt(Fault(up=Way(delay_seconds=0.4)))
        began = monotonic()
        for _ in range(4):
            client.sendall(b"x")
        assert take(client, 1) == b"x"
        assert monotonic() - began >= 0.4
        assert take(client, 3) == b"xxx"

    def test_a_rate_holds(self, line: Line, client: socket.socket) -> None:
        """Half a kilobyte at one per second, both ways beside each other."""
        line.hurt(TRICKLE)
        began = monotonic()
        assert echo(client, bytes(500)) == bytes(500)
        assert monotonic() - began >= 0.4

    def test_healing_ends_it(self, line: Line, client: socket.socket) -> None:
        """What was under way arrives at once."""
        line.hurt(TRICKLE)
        client.sendall(bytes(100_000))
        line.heal()
        began = monotonic()
        assert len(take(client, 100_000)) == 100_000
        assert monotonic() - began < 60


class TestCut:
    """A connection that breaks in the middle of a message."""

    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_after_so_many_bytes_upwards(self, line: Line, client: socket.socket, count: int) -> None:
        """The server has heard exactly these."""
        line.hurt(Fault(up=Way(cut_after=count)))
        client.sendall(b"0123456789")
        with pytest.raises(ConnectionResetError):
            take(client, 10)
        eventually(lambda: Echo.heard == b"0123456789"[:count])

    def test_after_so_many_bytes_downwards(self, line: Line, client: socket.socket) -> None:
        """The server has done what it was told, and the client does not know."""
        line.hurt(Fault(down=Way(cut_after=3)))
        client.sendall(b"0123456789")
        assert take(client, 3) == b"012"
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert Echo.heard == b"0123456789"

    def test_counts_for_each_connection_anew(self, line: Line, client: socket.socket) -> None:
        """A new one gets as far as the last."""
        line.hurt(Fault(up=Way(cut_after=8)))
        with connect(line) as first, connect(line) as second:
            assert echo(first, b"1234567") == echo(second, b"1234567") == b"1234567"
