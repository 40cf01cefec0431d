"""TLS at the door, and in words what is wrong with a server's certificate.

A handshake belongs to the greenthread of its connection: the accept loop takes no part in it, and a client that is slow
with it costs a file descriptor like any other. Only eventlet's own ``ssl`` waits without holding up the process.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from eventlet.green import socket, ssl
from eventlet.timeout import Timeout
from nameko.exceptions import ConfigurationError

from services.chassis.logs import get_logger

log = get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """A server's certificate and key; files that have changed are used from the next handshake on."""

    def __init__(self, certificate: str, key: str = "") -> None:
        self._certificate = certificate
        self._key = key or certificate
        self._seen = self._stamp()
        self._context = self._load()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Certificate | None":
        """What the configuration names; raises ConfigurationError when it cannot be used, None when there is none."""
        certificate, key = config.get("TLS_CERTIFICATE"), config.get("TLS_KEY")
        if not certificate:
            return None
        try:
            return cls(str(certificate), str(key or ""))
        except OSError as error:
            raise ConfigurationError(f"TLS_CERTIFICATE or TLS_KEY cannot be used: {error}") from error

    def wrap(self, connection: Any) -> Any:
        """The accepted connection, whose handshake is still to come; the given one is no longer usable."""
        return self._newest().wrap_socket(connection, server_side=True, do_handshake_on_connect=False)

    def _newest(self) -> Any:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            try:
                self._context = self._load()
                log.info("certificate_taken", file=self._certificate)
            except OSError as error:  # half a change perhaps: the other file is looked at when it has changed too
                log.warning("certificate_refused", file=self._certificate, error=str(error))
        return self._context

    def _stamp(self) -> Stamp | None:
        with suppress(OSError):
            states = [Path(file).stat() for file in (self._certificate, self._key)]
            return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)
        return None

    def _load(self) -> Any:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._certificate, self._key, password="")  # else a locked key asks the terminal
        return context


def shake_hands(connection: Any, seconds: float) -> bool:
    """Whether the client and we understand each other now; one that does not in time is given up."""
    try:
        with Timeout(seconds, TimeoutError("too slow")):
            connection.do_handshake()
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        log.debug("http_connection_lost")  # it left, or only looked whether somebody listens
    except OSError as error:
        log.info("http_handshake_failed", reason=getattr(error, "reason", None) or str(error))
    else:
        return True
    return False


def is_secure(connection: Any) -> bool:
    """Whether this is a TLS connection."""
    return isinstance(connection, ssl.SSLSocket)


def end_sending(connection: Any) -> None:
    """Tell the other side that nothing more comes; it may go on sending. Never waits."""
    if not is_secure(connection):
        connection.shutdown(socket.SHUT_WR)
        return
    hasten_end(connection)
    with suppress(OSError, ValueError):  # SSLWantReadError: they have not said goodbye yet, which nobody waits for
        connection.unwrap()
    connection.setblocking(True)  # noqa: FBT003 - the socket's own signature


def hasten_end(connection: Any) -> None:
    """Let closing this connection wait for nobody: a TLS connection would wait for the other side's goodbye."""
    if is_secure(connection):
        connection.setblocking(False)  # noqa: FBT003 - the socket's own signature


def distrust(error: BaseException) -> str:
    """In words why a server's certificate was refused; empty when the error is about something else."""
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {each.verify_message.rstrip('.')}"
        if isinstance(each, ssl.SSLError) and each.reason:
            return f"TLS with it fails: {each.reason}"
    return ""


def because(sentence: str, reason: str) -> str:
    """The sentence, with the reason where there is one."""
    return f"{sentence}: {reason}" if reason else sentence


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__  # type: ignore[assignment] # None ends it
