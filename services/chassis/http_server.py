"""Nameko's web server, made for the open internet: listeners, connections, limits, and an end that always comes.

``WebServer`` is meant to be subclassed. The stock one shares its port in silence, keeps half-open connections for
ever, dies of one ``EMFILE`` and answers a stop when it pleases. A connection here costs a greenthread and a file
descriptor; when there are too many, those that have been silent longest make room.
"""

import errno
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Final

import eventlet
from eventlet import greenio, wsgi
from eventlet.green import socket
from eventlet.timeout import Timeout
from nameko.exceptions import ConfigurationError
from nameko.web.server import WebServer
from werkzeug.routing import Map

from services.chassis import config as settings
from services.chassis import tls
from services.chassis.http_app import App, url_map
from services.chassis.http_protocol import READING, SINCE, STATE, Protocol
from services.chassis.logs import get_logger
from services.chassis.problems import CONTENT_TYPE, Refusal, document, status_line

log = get_logger(__name__)

BACKLOG: Final = 1024
SPARE_FILES: Final = 128
"""File descriptors left for the broker, Redis, logs and the like."""

MOST_FAREWELLS: Final = 64
"""How many of those there is no room for are told so at a time; the others are closed without a word."""

STALE_SECONDS: Final = 0.5
"""A connection without a whole request for so long may be closed when another one needs its place."""

_NO_FILES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Connection = list[Any]
"""``[address, socket, state, since]``"""

Certificate = tls.Certificate | None
"""What a listener shows; None where it speaks no TLS."""


@dataclass(frozen=True)
class Limits:
    """What one client may cost; each has a setting ``HTTP_...`` that overrides the default here."""

    connections: int = 1000
    pending: int = 200
    header_seconds: float = 10
    body_seconds: float = 15
    keepalive_seconds: float = 30
    socket_seconds: float = 15
    drain_seconds: float = 10
    body_bytes: int = 65536
    hsts_seconds: int = 31536000
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Limits":
        """The limits a configuration asks for."""

        def value(key: str, kind: Any, default: Any) -> Any:
            return default if config.get(key) is None else settings.read(config, key, kind)

        return cls(
            connections=min(value("HTTP_MAX_CONNECTIONS", settings.whole, cls.connections), _files_to_spare()),
            pending=value("HTTP_MAX_PENDING", settings.whole, cls.pending),
            header_seconds=value("HTTP_HEADER_SECONDS", settings.positive, cls.header_seconds),
            body_seconds=value("HTTP_BODY_SECONDS", settings.positive, cls.body_seconds),
            keepalive_seconds=value("HTTP_KEEPALIVE_SECONDS", settings.positive, cls.keepalive_seconds),
            socket_seconds=value("HTTP_SOCKET_SECONDS", settings.positive, cls.socket_seconds),
            drain_seconds=value("HTTP_DRAIN_SECONDS", settings.positive, cls.drain_seconds),
            body_bytes=value("MAX_BODY_BYTES", settings.whole, cls.body_bytes),
            hsts_seconds=value("HSTS_SECONDS", settings.count, cls.hsts_seconds),
            origins=tuple(value("CORS_ORIGINS", list, cls.origins)),
        )


class HttpServer(WebServer):
    """The one HTTP server of a service, shared by its handlers and probes."""

    _starting: bool
    _serv: Any
    limits: Limits
    is_draining = False
    port = 0
    """The port of the first listener, once the server has started."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[tuple[Any, Any]] = []
        self._connections: dict[Any, Connection] = {}
        self._turning_away = 0
        self.when_draining: list[Callable[[], None]] = []
        """What ends answers that would go on and on."""
        self._certificate: Certificate = None

    def setup(self) -> None:
        """Read the certificate; one that cannot be used refuses to start."""
        self._certificate = tls.Certificate.of(self.container.config)

    def addresses(self) -> Iterable[tuple[str, int, Certificate]]:
        """Where to listen, and with which certificate: HTTP, then HTTPS where it has a port and a certificate."""
        service, config = self.container.service_name, self.container.config
        ports, secure_ports = (config.get(key) or {} for key in ("HTTP_PORTS", "HTTPS_PORTS"))
        if service not in ports:
            raise ConfigurationError(f"HTTP_PORTS has no port for the service {service}")
        host = settings.read(config, "HTTP_HOST", settings.text)
        yield host, settings.read(ports, service, settings.port), None
        if self._certificate and secure_ports.get(service):
            yield host, settings.read(secure_ports, service, settings.port), self._certificate

    def is_overloaded(self) -> bool:
        """Whether so many requests wait for a worker that one more had better come back later."""
        return bool(self.container._worker_pool.waiting() >= self.limits.pending)  # noqa: SLF001 - no public name

    def start(self) -> None:
        """Listen. An address that is taken raises OSError with its name, and the service does not start."""
        if self._starting:
            return
        self._starting = True
        self.limits = Limits.of(self.container.config)
        for host, port, certificate in self.addresses():
            listener = self._listen((host, port), certificate)
            if self._serv is None:
                self.port = int(listener.getsockname()[1])
                self._serv = self.get_wsgi_server(listener, self.get_wsgi_app())
            accept = partial(self._accept, listener, certificate)
            accepting = self.container.spawn_managed_thread(accept, identifier="http accept")
            self._listeners.append((listener, accepting))

    def get_wsgi_app(self) -> App:
        """The application with all its routes."""
        return App(self)

    def get_wsgi_server(self, sock: Any, wsgi_app: Any, protocol: Any = Protocol, debug: bool = False) -> Any:  # noqa: FBT001, FBT002 - Nameko's signature
        """The server object of eventlet, which only carries settings here: connections are ours."""
        server = wsgi.Server(
            sock,
            sock.getsockname(),
            wsgi_app,
            protocol=protocol,
            log=log,  # eventlet tells here of clients that left before their answer was whole
            debug=debug,
            log_output=False,
            log_x_forwarded_for=False,
            keepalive=self.limits.keepalive_seconds,
            socket_timeout=self.limits.socket_seconds,
        )
        server.owner = self
        return server

    def make_url_map(self) -> Map:
        """The routes of all handlers and probes."""
        return url_map(self._providers)

    def drain(self) -> None:
        """Close the listeners at once, let running requests finish, and return when no connection is left.

        Waits at most ``drain_seconds``. Every handler calls it when it stops, before its container waits for workers:
        what has been accepted is answered while everything it needs still lives.
        """
        self._close_listeners()
        end = monotonic() + self.limits.drain_seconds
        patience = monotonic() + min(2.0, self.limits.drain_seconds)
        while self._connections and monotonic() < end:
            if monotonic() > patience:
                self._close_connections((wsgi.STATE_IDLE, READING))
            eventlet.sleep(0.02)
        self._close_connections()

    def stop(self) -> None:
        """As :meth:`drain`."""
        self.drain()

    def kill(self) -> None:
        """Close everything now."""
        self._close_listeners()
        self._close_connections()

    def _listen(self, address: tuple[str, int], certificate: Certificate) -> Any:
        # eventlet's default shares the port in silence, and two services then answer each other's clients
        share = self.container.config.get("HTTP_SHARE_PORT") is True
        try:
            listener = eventlet.listen(address, backlog=BACKLOG, reuse_port=share)
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address[0]}:{address[1]}: {error.strerror}") from error
        listener.settimeout(None)
        scheme, port = "https" if certificate else "http", listener.getsockname()[1]
        log.info("http_listening", host=address[0], port=port, scheme=scheme)
        return listener

    def _accept(self, listener: Any, certificate: Certificate) -> None:
        while not self.is_draining:
            try:
                connection, address = listener.accept()
            except OSError as error:
                if self.is_draining:
                    return
                if error.errno in _NO_FILES:
                    self._make_room(0)
                log.warning("http_accept_failed", error=error.strerror)
                eventlet.sleep(0.05)
                continue
            if len(self._connections) >= self.limits.connections and not self._make_room(STALE_SECONDS):
                eventlet.spawn_n(self._turn_away, connection, certificate)
            else:
                self._spawn(connection, address, certificate)

    def _spawn(self, connection: Any, address: Any, certificate: Certificate) -> None:
        record: Connection = [address, connection, wsgi.STATE_IDLE, monotonic()]
        thread = eventlet.spawn(self._serve, record, certificate)
        self._connections[thread] = record
        thread.link(self._forget)

    def _forget(self, thread: Any) -> None:
        self._connections.pop(thread, None)

    def _serve(self, record: Connection, certificate: Certificate) -> None:
        try:
            record[1].settimeout(self.limits.socket_seconds)
            record[1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if certificate is not None:
                record[1] = certificate.wrap(record[1])
                if not tls.shake_hands(record[1], self.limits.header_seconds):
                    return
            self._serv.process_request(record)
        except OSError as error:
            log.debug("http_connection_lost", error=str(error))
        except Exception:
            log.exception("http_connection_failed")  # one connection's bug must not end the service
        finally:
            greenio.shutdown_safe(record[1])
            record[1].close()

    def _make_room(self, silent_for: float) -> bool:
        """Close the connection that has been without a whole request for longest; False if none has for long enough."""
        silent = [
            (record[SINCE], thread)
            for thread, record in self._connections.items()
            if record[STATE] in (wsgi.STATE_IDLE, READING)
        ]
        since, thread = min(silent, key=lambda entry: entry[0], default=(monotonic(), None))
        if thread is None or monotonic() - since < silent_for:
            return False
        self._connections.pop(thread, None)
        thread.kill()
        return True

    def _turn_away(self, connection: Any, certificate: Certificate) -> None:
        refusal = Refusal(503, "too_many_connections", "Too many connections.", {"Retry-After": "1"})
        try:
            if self._turning_away < MOST_FAREWELLS:
                self._turning_away += 1
                try:
                    if certificate is not None:
                        connection = certificate.wrap(connection)
                    _say_goodbye(connection, refusal)
                finally:
                    self._turning_away -= 1
        except (OSError, Timeout):
            log.debug("http_connection_lost")
        finally:
            connection.close()

    def _close_listeners(self) -> None:
        if self.is_draining:
            return
        self.is_draining = True
        for listener, accepting in self._listeners:
            accepting.kill()
            listener.close()
        for end in self.when_draining:
            end()
        self._close_connections((wsgi.STATE_IDLE,))

    def _close_connections(self, states: Iterable[str] | None = None) -> None:
        for thread, record in list(self._connections.items()):
            if states is None or record[STATE] in states:
                thread.kill()


def _files_to_spare() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if files == resource.RLIM_INFINITY else max(files - SPARE_FILES, SPARE_FILES)


def _say_goodbye(connection: Any, refusal: Refusal) -> None:
    """Answer without reading, then read for a moment so that the answer is not lost to a reset."""
    body = document(refusal, instance="", request_id="")
    head = (
        f"HTTP/1.1 {status_line(refusal.status)}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    with Timeout(1):
        if tls.is_secure(connection):
            connection.do_handshake()
        connection.sendall(head.encode() + body)
        tls.end_sending(connection)
        while connection.recv(65536):
            pass
