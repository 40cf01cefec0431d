"""Answers that go on: server-sent events (WHATWG HTML, section 9.2) about topics that change now and then.

A stream is iterated by its connection's own greenthread and holds no worker. It only waits for what
:meth:`Streams.bring` passes on, and that asks once for all topics which somebody watches, however many streams there
are. An event's id is the number it has at its source, so a client that lost its stream - here, or another instance's -
goes on where it was.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Any, Final

from eventlet.queue import Empty, LightQueue
from werkzeug.wrappers import Response

from services.chassis import wire
from services.chassis.auth import Principal
from services.chassis.config import positive, read, whole
from services.chassis.errors import ServiceError, Unavailable
from services.chassis.http_app import Request
from services.chassis.http_server import HttpServer
from services.chassis.logs import get_logger
from services.chassis.metrics import EVENT_STREAMS
from services.chassis.problems import Refusal
from services.chassis.provider import Provider

CONTENT_TYPE: Final = "text/event-stream"
OPENING: Final = b"retry: 1000\n\n"
HEARTBEAT: Final = b":\n\n"
END: Final = b""
MOST_TOPICS: Final = 200
"""Of how many topics one question asks."""

MOST_WAITING: Final = 100
"""A client that is so many events behind is let go; it comes back with its last id."""

LONGEST_NUMBER: Final = 9
CHECK_SECONDS: Final = 5.0
"""How long a stream may outlive its token's revocation."""

News = Mapping[str, Any]
"""``{"entries": [{"number", ...}], "over"}``: what is new about a topic, and whether it is the last."""

log = get_logger(__name__)


@dataclass(frozen=True)
class Bounds:
    """What streams may cost."""

    most: int = 500
    most_each: int = 20
    """Of one user."""
    seconds: float = 900
    heartbeat_seconds: float = 10


class Stream:
    """One client's events about one topic: iterate it for the bytes."""

    def __init__(self, topic: str, caller: Principal, last: int, bounds: Bounds) -> None:
        self.topic = topic
        self.caller = caller
        self.last = last
        token_seconds = (caller.expires_at - datetime.now(UTC)).total_seconds()
        self.until = monotonic() + min(bounds.seconds, token_seconds)
        self.heartbeat_seconds = bounds.heartbeat_seconds
        self.checked_at = monotonic()
        self.waiting = LightQueue()

    def tell(self, news: News) -> None:
        """Pass on what this client has not had yet, and end with the last of it."""
        for entry in news["entries"]:
            if entry["number"] > self.last:
                self.last = entry["number"]
                self.waiting.put(b"id: %d\ndata: %s\n\n" % (self.last, wire.encode(entry)))
        if news["over"] or self.waiting.qsize() > MOST_WAITING:
            self.end()

    def end(self) -> None:
        """Let it end once the client has had what waits."""
        self.waiting.put(END)

    def __iter__(self) -> Iterator[bytes]:
        yield OPENING
        while (left := self.until - monotonic()) > 0:
            try:
                chunk = self.waiting.get(timeout=min(left, self.heartbeat_seconds))
            except Empty:
                chunk = HEARTBEAT
            if chunk == END:
                return
            yield chunk


class Streams:
    """All open streams of this process."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.open: set[Stream] = set()
        self.is_closing = False

    def answer(self, request: Request, caller: Principal, topic: str, ask: Callable[[int], News]) -> Response:
        """The stream of the entries after ``Last-Event-ID``; 204, which ends reconnecting, when there will be none.

        ``ask`` says what is new after a number, and raises what passes through for who may not know.
        Raises Refusal 503 when there are too many streams, 429 when too many are the caller's.
        """
        last = _last_event_id(request)
        self._require_room(caller)
        news = ask(last)
        if news["over"] and not news["entries"]:
            return Response(status=204)
        headers = {"X-Accel-Buffering": "no"}  # nginx would wait for more
        if request.method == "HEAD":
            return Response(headers=headers, content_type=CONTENT_TYPE)
        self._require_room(caller)
        stream = Stream(topic, caller, last, self.bounds)
        stream.tell(news)
        self.open.add(stream)
        EVENT_STREAMS.set(len(self.open))
        request.environ["eventlet.minimum_write_chunk_size"] = 1  # eventlet would wait for 4 KiB
        response = Response(stream, headers=headers, content_type=CONTENT_TYPE)
        response.call_on_close(partial(self._forget, stream))
        return response

    def bring(self, ask: Callable[[Mapping[str, int]], Mapping[str, News]]) -> None:
        """Ask once what is new after a number about every topic that is watched, and pass it on."""
        watched: dict[str, list[Stream]] = defaultdict(list)
        for stream in self.open:
            watched[stream.topic].append(stream)
        topics = list(watched)
        try:
            for some in (topics[start : start + MOST_TOPICS] for start in range(0, len(topics), MOST_TOPICS)):
                found = ask({topic: min(stream.last for stream in watched[topic]) for topic in some})
                for topic, news in found.items():
                    _tell_all(watched[topic], news)
        except Unavailable as error:
            log.warning("streams_without_news", code=error.code)

    def check(self, admit: Callable[[Principal], None]) -> None:
        """End the streams of callers whom ``admit`` refuses, each asked for every few seconds."""
        due = monotonic() - CHECK_SECONDS
        for stream in [stream for stream in self.open if stream.checked_at < due]:
            stream.checked_at = monotonic()
            try:
                admit(stream.caller)
            except ServiceError:
                stream.end()

    def end_all(self) -> None:
        """End every stream: this process stops, and its clients go on at another one."""
        self.is_closing = True
        for stream in self.open:
            stream.end()

    def _require_room(self, caller: Principal) -> None:
        if self.is_closing:
            raise Refusal(503, "stopping", "This instance is stopping.", {"Retry-After": "1"})
        if len(self.open) >= self.bounds.most:
            raise Refusal(503, "overloaded", "Too many streams are open.", {"Retry-After": "5"})
        if sum(stream.caller.user_id == caller.user_id for stream in self.open) >= self.bounds.most_each:
            raise Refusal(429, "too_many_streams", "Too many of your streams are open.", {"Retry-After": "5"})

    def _forget(self, stream: Stream) -> None:
        self.open.discard(stream)
        EVENT_STREAMS.set(len(self.open))


class EventStreams(Provider[Streams]):
    """Injects the process' :class:`Streams`, which end when its HTTP server drains."""

    server = HttpServer()

    def setup(self) -> None:
        """Read what streams may cost."""
        config = self.container.config
        bounds = Bounds(
            most=read(config, "EVENTS_MAX_STREAMS", whole),
            most_each=read(config, "EVENTS_MAX_STREAMS_PER_USER", whole),
            seconds=read(config, "EVENTS_STREAM_SECONDS", positive),
            heartbeat_seconds=read(config, "EVENTS_HEARTBEAT_SECONDS", positive),
        )
        self.streams = Streams(bounds)
        self.server.when_draining.append(self.streams.end_all)

    def get_dependency(self, worker_ctx: Any) -> Streams:
        """The same streams for every worker."""
        return self.streams


def _tell_all(streams: Sequence[Stream], news: News) -> None:
    for stream in streams:
        stream.tell(news)


def _last_event_id(request: Request) -> int:
    text = request.environ.get("HTTP_LAST_EVENT_ID", "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise Refusal(400, "bad_last_event_id", "Last-Event-ID is not the id of an event of this stream.")
    return int(text)
