"""Where a client may knock - a door that nobody opens, one with a certificate of its own - and who knocks."""

import contextlib
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
import trustme

from cli.servers.ports import LOOPBACK
from oms_client import Client, Retries, Settings
from tests.clients.ground import PASSWORD, an_email
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster


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


Enter = Callable[..., Client]

PATIENT = Retries(deadline_seconds=90.0)
"""A busy machine is slow, which says nothing about the client."""


@pytest.fixture
def enter(cluster: Cluster) -> Iterator[Enter]:
    """``enter()`` is a client of nobody at the gateway; connections are closed in the end."""
    with contextlib.ExitStack() as clients:

        def make(url: str = cluster.url, context: Any = dict, **options: Any) -> Client:
            settings = Settings(PATIENT, answer_seconds=30.0, use_environment=False, context=context)
            return clients.enter_context(Client(url, settings=settings, **options))

        yield make


@pytest.fixture
def ada(enter: Enter) -> Client:
    """A new customer."""
    client = enter()
    client.register(an_email(), PASSWORD, first_name="Ada", phone="+4915112345678")
    return client


@pytest.fixture
def boss(enter: Enter) -> Client:
    """The administrator."""
    client = enter()
    client.log_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    return client


@pytest.fixture
def lamp(boss: Client) -> UUID:
    """Something with five on the shelf."""
    product = boss.create_product(f"Lamp {secrets.token_hex(4)}", Decimal("34.90"))
    boss.adjust_stock(product.id, 5, "delivered")
    return product.id
