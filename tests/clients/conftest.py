"""Where a client may knock: a door that nobody opens, and one with a certificate of its own."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme

from cli.servers.ports import LOOPBACK


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port where nobody listens, and nobody will: it is taken without being open."""
    with socket.socket() as claim:
        claim.bind((LOOPBACK, 0))
        yield claim.getsockname()[1]


@dataclass(frozen=True)
class TlsServer:
    """A server whose products are none, and who vouches for it."""

    url: str
    authority: Path


class _NoProducts(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Answer that there are none."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"items": [], "nextCursor": null}')

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that does not trust it hangs up; that is what the test is about."""


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[TlsServer]:
    """A server with a certificate from an authority that nobody knows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(LOOPBACK).configure_cert(context)
    with _Quiet((LOOPBACK, 0), _NoProducts) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield TlsServer(f"https://{LOOPBACK}:{server.server_address[1]}", tmp_path / "authority.pem")
        server.shutdown()
        thread.join()
