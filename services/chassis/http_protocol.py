"""One HTTP/1.1 connection, read strictly.

The standard library's parser forgives what a proxy in front may read differently (two lengths, folded headers, bare
line feeds), and answers in HTML. This one takes one reading of RFC 9112 or refuses with a problem document, and gives
a client a limited time for its headers, so that slow ones only cost a file descriptor.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from eventlet import wsgi
from eventlet.timeout import Timeout

from services.chassis import metrics, tls
from services.chassis.logs import get_logger
from services.chassis.problems import CONTENT_TYPE, SECURITY_HEADERS, Refusal, document, status_line

log = get_logger(__name__)

LONGEST_LINE: Final = 8192
LONGEST_HEAD: Final = 32768
MOST_HEADERS: Final = 100
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 1 << 20

STATE: Final = 2
SINCE: Final = 3
READING: Final = "reading"
"""A connection's record is ``[address, socket, state, since]``; eventlet knows the first three."""

_REQUEST_LINE: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) (HTTP/1\.[01])")
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~%-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_LENGTH: Final = re.compile(r"[0-9]{1,15}")
_ONCE: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "content-type", "authorization", "idempotency-key", "expect"}
)


class Headers:
    """A request's header fields, as eventlet asks for them; names are compared in lower case."""

    def __init__(self) -> None:
        self._headers: list[tuple[str, str]] = []
        self._first: dict[str, str] = {}

    def add(self, name: str, value: str) -> None:
        """Keep one field; a second one of a kind that must be single is refused."""
        lower = name.lower()
        if lower in self._first and lower in _ONCE:
            raise _bad("repeated_header", "A header that may stand once stands twice.")
        self._first.setdefault(lower, value)
        self._headers.append((name, value))

    def get(self, name: str, default: Any = None) -> Any:
        """The first field of that name."""
        return self._first.get(name.lower(), default)

    def get_content_type(self) -> str:
        """What counts as the content type where none was sent."""
        return ""


class Protocol(wsgi.HttpProtocol):
    """Requests of one connection, one after the other."""

    headers: Headers
    unread = False
    """Whether the client may still be sending when we close."""

    def setup(self) -> None:
        """Header names go out as they were written: ``ETag``, not ``Etag``."""
        super().setup()
        self.capitalize_response_headers = False

    def handle_one_request(self) -> None:
        """Read one request and answer it, or leave ``close_connection`` set."""
        self.close_connection = True
        self.requestline = self.command = self.path = ""
        try:
            head = self._read_head()
            if head:
                self._parse(head)
                self.environ = self.get_environ()
                self.application = self.server.app
                self.handle_one_response()
        except Refusal as refusal:
            self._refuse(refusal)
        except OSError:  # reset, closed, or silent for too long: there is nobody to tell
            self.close_connection = True

    def get_environ(self) -> dict[str, Any]:
        """The WSGI environment; ``oms.connection`` lets the application close the connection after its answer."""
        environ: dict[str, Any] = super().get_environ()
        environ["oms.connection"] = self
        if self.is_secure:
            environ["wsgi.url_scheme"] = "https"
        return environ

    def finish(self) -> None:
        """Close, but let the client read our answer first when it is still sending."""
        with suppress(OSError):
            self.wfile.flush()
        with suppress(OSError, Timeout):
            if self.unread:
                self._linger()
            elif self.is_secure:
                tls.end_sending(self.connection)
        self.rfile.close()
        with suppress(OSError):
            self.wfile.close()
        self.connection.close()

    @property
    def is_secure(self) -> bool:
        """Whether the client speaks TLS with us."""
        return tls.is_secure(self.connection)

    @property
    def security_headers(self) -> Iterator[tuple[str, str]]:
        """What stands on every answer of this connection; over HTTPS that a browser shall use nothing else (HSTS)."""
        yield from SECURITY_HEADERS
        seconds = self.server.owner.limits.hsts_seconds
        if seconds and self.is_secure:
            yield "Strict-Transport-Security", f"max-age={seconds}"

    def close_after_answer(self, *, unread: bool = False) -> None:
        """Let this answer be the last on the connection."""
        self.close_connection = True
        self.unread = unread

    def mark(self, state: str) -> None:
        """Say what this connection is doing: ``idle`` and ``reading`` ones may be closed when room is needed."""
        self.conn_state[STATE] = state

    def _read_head(self) -> bytes:
        """The request line and the header fields with their line ends, or nothing when the client is done."""
        self.mark(wsgi.STATE_IDLE)
        self.conn_state[SINCE] = monotonic()
        if self.server.owner.is_draining:
            return b""
        self.connection.settimeout(self.server.keepalive)
        buffered = self.rfile.peek(1)
        self.connection.settimeout(self.server.socket_timeout)
        if not buffered:
            return b""
        self.mark(READING)
        end = buffered.find(b"\r\n\r\n", 2)  # an empty line before the request line is forgiven (RFC 9112, 2.2)
        if end >= 0:  # nearly always: no timer needed
            return bytes(self.rfile.read(end + 4))
        with Timeout(
            self.server.owner.limits.header_seconds, Refusal(408, "headers_too_slow", "The headers took too long.")
        ):
            return self._read_lines()

    def _read_lines(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        while line := self.rfile.readline(LONGEST_LINE + 2):
            size += len(line)
            lines.append(line)
            if len(line) > LONGEST_LINE or size > LONGEST_HEAD:
                raise _too_long(first=len(lines) == 1)
            if line == b"\r\n" and size > 2:
                return b"".join(lines)
            if not line.endswith(b"\r\n"):
                raise _bad("bad_request_line", "A line does not end with CR LF.")
        return b""

    def _parse(self, head: bytes) -> None:
        first, *rest = head.decode("latin-1").removeprefix("\r\n").removesuffix("\r\n\r\n").split("\r\n")
        line = _REQUEST_LINE.fullmatch(first)
        if len(first) > LONGEST_LINE:
            raise _too_long(first=True)
        if line is None:
            raise _bad("bad_request_line", "The request line is not one of HTTP/1.1.")
        self.requestline = first
        self.command, target, self.request_version = line.groups()
        self.path = _origin_form(target)
        self.headers = Headers()
        for field in rest:
            match = _HEADER.fullmatch(field)
            if match is None or len(field) > LONGEST_LINE:
                raise _bad("bad_header", "A header field is malformed or too long.")
            self.headers.add(match[1], match[2].rstrip(" \t"))
        self._check_headers(len(rest))

    def _check_headers(self, count: int) -> None:
        get = self.headers.get
        if count > MOST_HEADERS:
            raise Refusal(431, "headers_too_large", f"There are more than {MOST_HEADERS} header fields.")
        modern = self.request_version == "HTTP/1.1"
        host = get("host")
        if (host is None and modern) or (host is not None and not _HOST.fullmatch(host)):
            raise _bad("bad_host", "Exactly one valid Host header is needed.")
        length, coding = get("content-length"), get("transfer-encoding")
        if coding is not None and (length is not None or coding.lower() != "chunked" or not modern):
            raise _bad("bad_framing", "A body has one Content-Length, or Transfer-Encoding: chunked, and nothing else.")
        if length is not None and not _LENGTH.fullmatch(length):
            raise _bad("bad_framing", "Content-Length is not a number.")
        if get("expect", "100-continue").lower() != "100-continue":
            raise Refusal(417, "expectation_failed", "Only 100-continue can be expected.")
        wanted = {option.strip() for option in get("connection", "").lower().split(",")}
        self.close_connection = "close" in wanted or not (modern or "keep-alive" in wanted)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer a request that never became one."""
        self.close_connection = self.unread = True
        request_id = str(uuid4())
        body = document(refusal, instance=self.path.split("?", 1)[0], request_id=request_id)
        headers = [
            *self.security_headers,
            *refusal.headers.items(),
            ("Content-Type", CONTENT_TYPE),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Request-Id", request_id),
            ("Connection", "close"),
        ]
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        with suppress(OSError):
            self.wfile.write(f"HTTP/1.1 {status_line(refusal.status)}\r\n{fields}\r\n".encode("latin-1") + body)
        metrics.HTTP_SECONDS.labels("", "malformed", str(refusal.status)).observe(0)
        log.info("http_request_refused", status=refusal.status, code=refusal.code, correlation_id=request_id)

    def _linger(self) -> None:
        """Read on for a moment: closing on unread bytes would reset the connection and lose our answer."""
        tls.end_sending(self.connection)
        read = 0
        with Timeout(LINGER_SECONDS):
            while read < LINGER_BYTES and (some := self.connection.recv(65536)):
                read += len(some)


def _origin_form(target: str) -> str:
    """The path and query of a request target."""
    if target.startswith(("http://", "https://")):
        _, _, rest = target.partition("://")[2].partition("/")
        return f"/{rest}"
    if target.startswith("/"):
        return "/" + target.lstrip("/")
    if target == "*":
        return "/*"
    raise _bad("bad_request_line", "The request target is not a path.")


def _bad(code: str, detail: str) -> Refusal:
    return Refusal(400, code, detail)


def _too_long(*, first: bool) -> Refusal:
    if first:
        return Refusal(414, "uri_too_long", f"The request line is longer than {LONGEST_LINE} bytes.")
    return Refusal(431, "headers_too_large", "The header fields are too large.")
