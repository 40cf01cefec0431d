"""Following an order over streams that end, break off and are refused; the server is a small one of the test's own."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final, NamedTuple
from uuid import uuid4

import pytest

from cli.servers.ports import LOOPBACK
from oms_client import Client, NoAnswer, NotFound, OrderStatus
from oms_client.streams import Reader
from tests.clients.ground import FakeClock, slept, tokens

ORDER: Final = uuid4()
OPENING: Final = b"retry: 2000\n\n"
HEARTBEAT: Final = b":\n\n"


def entry(number: int, event: str = "place", **fields: Any) -> bytes:
    """An entry of the history as it comes over the stream."""
    document = {"number": number, "event": event, "at": "2026-01-02T03:04:05Z", **fields}
    return f"id: {number}\ndata: {json.dumps(document)}\n\n".encode()


class Stream(NamedTuple):
    """What one connection gets: a status, these chunks, and whether they end as they should."""

    status: int = 200
    chunks: Sequence[bytes] = ()
    breaks: bool = False


OVER: Final = Stream(204)


@dataclass
class Server:
    """Where the streams are, and which id each was asked to go on after."""

    url: str
    asked: list[str | None]


@contextmanager
def serving(*streams: Stream) -> Iterator[Server]:
    """A server that gives one of these streams to each connection in turn."""
    waiting, asked = list(streams), []

    class Handler(BaseHTTPRequestHandler):
        """Gives the next one."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """As it stands in the list."""
            asked.append(self.headers["Last-Event-ID"])
            stream = waiting.pop(0)
            self.close_connection = True
            self.send_response(stream.status)
            if stream.status != 200:
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in stream.chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if not stream.breaks:
                self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield Server(f"http://{LOOPBACK}:{server.server_address[1]}", asked)
        finally:
            server.shutdown()
            thread.join()


def follower(server: Server) -> Client:
    """A client with a clock that passes by sleeping."""
    return Client(server.url, tokens=tokens(), clock=FakeClock())


class TestFollowing:
    """``follow`` yields each entry once, in order, to the end."""

    def test_reads_to_the_end(self) -> None:
        """204 says that nothing more will come; what changed is typed."""
        moved = entry(2, "PaymentProcessedEvent", fromStatus="Pending", toStatus="Confirmed", later="unknown")
        with serving(Stream(chunks=[OPENING, entry(1), HEARTBEAT, moved]), OVER) as server:
            found = list(follower(server).follow(ORDER))

        assert [each.number for each in found] == [1, 2]
        assert (found[1].from_status, found[1].to_status) == (OrderStatus.PENDING, OrderStatus.CONFIRMED)
        assert server.asked == [None, "2"]

    def test_goes_on_where_a_stream_broke_off(self) -> None:
        """Half an entry is none, and comes whole."""
        half = entry(3)[:-10]
        streams = [Stream(chunks=[entry(1), entry(2), half], breaks=True), Stream(chunks=[entry(3)]), OVER]
        with serving(*streams) as server:
            found = [each.number for each in follower(server).follow(ORDER)]

        assert found == [1, 2, 3]
        assert server.asked == [None, "2", "3"]

    def test_goes_on_where_the_caller_was(self) -> None:
        """Another process may have read the beginning."""
        with serving(Stream(chunks=[entry(8)]), OVER) as server:
            found = [each.number for each in follower(server).follow(ORDER, after=7)]

        assert (found, server.asked) == ([8], ["7", "8"])

    def test_comes_back_when_the_server_says(self) -> None:
        """A server that stops ends its streams; another one carries on."""
        with serving(Stream(chunks=[OPENING, entry(1)]), Stream(503), Stream(429), Stream(chunks=[]), OVER) as server:
            client = follower(server)
            found = [each.number for each in client.follow(ORDER)]

        assert found == [1]
        assert server.asked == [None, "1", "1", "1", "1"]
        assert slept(client)[0] == 2.0

    def test_gives_up_when_nothing_comes_any_more(self) -> None:
        """One broken stream after the other, without a word."""
        with serving(*[Stream(chunks=[HEARTBEAT], breaks=True)] * 6) as server, pytest.raises(NoAnswer):
            list(follower(server).follow(ORDER))

        assert len(server.asked) == 6

    def test_is_patient_while_something_comes(self) -> None:
        """Any number of broken streams is no matter then."""
        streams = [Stream(chunks=[entry(number)], breaks=True) for number in range(1, 21)]
        with serving(*streams, OVER) as server:
            found = [each.number for each in follower(server).follow(ORDER)]

        assert found == list(range(1, 21))

    def test_tells_of_an_order_that_is_not_there(self) -> None:
        """As any other question does."""
        with serving(Stream(404)) as server, pytest.raises(NotFound):
            list(follower(server).follow(ORDER))

    def test_may_be_left_in_the_middle(self) -> None:
        """The connection is given up with it."""
        with serving(Stream(chunks=[entry(1), entry(2)])) as server:
            entries = follower(server).follow(ORDER)
            first = next(entries)
            entries.close()  # type: ignore[attr-defined]

        assert (first.number, server.asked) == (1, [None])


class TestReader:
    """The format, as browsers read it."""

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("size", [1, 2, 3, 1000])
    def test_takes_every_line_end_in_any_pieces(self, end: str, size: int) -> None:
        """Networks cut where they like."""
        lines = ["id: 1", "data: one", "data:two", "", ": a comment", "", "event: x", "data: ü", "", "data: no"]
        content = end.join(lines).encode()

        reader = Reader()
        found = list(reader.read(content[start : start + size] for start in range(0, len(content), size)))

        assert found == ["one\ntwo", "ü"]
        assert reader.last_id == "1"

    def test_keeps_to_the_letter(self) -> None:
        """One space is left out, an empty id is one, nonsense is not."""
        reader = Reader(last_id="9")

        found = list(reader.read([b"\xef\xbb\xbfdata:  a\n\nid\nretry: soon\nid: \0\nwhat: ever\ndata\n\n"]))

        assert found == [" a", ""]
        assert (reader.last_id, reader.retry_seconds) == ("", 1.0)
