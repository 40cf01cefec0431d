"""A door with HTTPS beside HTTP."""

import socket
import ssl
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import requests

from tests.integration.gateway.conftest import OpenDoor
from tests.integration.gateway.door import Answer, Door, everything, free_port
from tests.support.certificates import Papers


@dataclass(frozen=True)
class SecureDoor:
    """A door with HTTPS, and the authority that a client must know."""

    door: Door
    port: int
    papers: Papers

    @property
    def url(self) -> str:
        """Where HTTPS is."""
        return f"https://localhost:{self.port}"

    def get(self, path: str = "/healthz") -> requests.Response:
        """The answer to somebody who knows the authority."""
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.url}{path}", verify=str(self.papers.authority), timeout=20)

    def knock(self) -> socket.socket:
        """A TCP connection on which nobody has said anything."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def connect(self, trust: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        """A connection after its handshake, on which a missing goodbye is an error."""
        trust = trust or self.papers.trust
        return trust.wrap_socket(self.knock(), server_hostname="localhost", suppress_ragged_eofs=False)

    def raw(self, request: bytes) -> Answer:
        """What the service says to exactly these bytes, until it says goodbye."""
        with closing(self.connect()) as connection:
            connection.sendall(request)
            return Answer(everything(connection))

    def failures(self) -> list[str]:
        """Why handshakes failed, as logged."""
        return [line["reason"] for line in self.door.lines() if line["event"] == "http_handshake_failed"]


def secured(papers: Papers, **settings: Any) -> dict[str, Any]:
    """Settings for a door with HTTPS."""
    certificate = {"TLS_CERTIFICATE": str(papers.certificate), "TLS_KEY": str(papers.key)}
    return {"HTTPS_PORTS": {"echo": free_port()}, **certificate, **settings}


def opened(open_door: OpenDoor, papers: Papers, **more: Any) -> SecureDoor:
    """A door with HTTPS, open."""
    settings = secured(papers, **more)
    return SecureDoor(open_door(**settings), settings["HTTPS_PORTS"]["echo"], papers)
