"""A service of its own process behind a free port, and the raw sockets to try it with."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import requests
import yaml

from services.chassis.auth import Principal, issue_token
from tests.support.until import eventually

ROOT = Path(__file__).parents[3]
SECRET = "a-secret-of-this-test-run-0123456789"
SETTINGS: Mapping[str, Any] = {
    "SERVICE_CONTAINER_CLS": "services.chassis.container.ServiceContainer",
    "ENVIRONMENT": "development",
    "AMQP_URI": "amqp://nobody:nothing@127.0.0.1:9/",
    "REDIS_URL": "redis://127.0.0.1:9/0",
    "HEARTBEAT": 10,
    "HTTP_HOST": "127.0.0.1",
    "HTTP_SHARE_PORT": False,
    "JWT_SECRET": SECRET,
    "JWT_ISSUER": "oms",
    "JWT_AUDIENCE": "oms-api",
    "ACCESS_TOKEN_SECONDS": 900,
    "REFRESH_TOKEN_SECONDS": 900,
    "CURRENCY": "EUR",
    "RPC_DEADLINE_SECONDS": 5,
    "RETRY_DELAYS_MS": [100],
    "MAX_ATTEMPTS": 5,
    "SHUTDOWN_SECONDS": 10,
    "DB_POOL_SIZE": 5,
    "TRUSTED_PROXIES": [],
    "PROXY_HEADER": "X-Forwarded-For",
    "RATE_LOGIN": 0,
    "RATE_LOGIN_FAILURES": 0,
    "RATE_ACCOUNT_FAILURES": 0,
    "RATE_REGISTRATION": 0,
    "RATE_REFRESH": 0,
    "RATE_ORDER": 0,
    "EVENTS_POLL_SECONDS": 0.1,
    "EVENTS_HEARTBEAT_SECONDS": 10,
    "EVENTS_STREAM_SECONDS": 900,
    "EVENTS_MAX_STREAMS": 500,
    "EVENTS_MAX_STREAMS_PER_USER": 20,
    "max_workers": 4,
    "LOGGING": {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "services.chassis.logs.formatter"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "loggers": {"nameko.containers": {"level": "CRITICAL"}},  # our container logs a bug itself, once
        "root": {"level": "INFO", "handlers": ["stderr"]},
    },
}


class Door:
    """A running service; ``with Door(...) as door`` ends it."""

    def __init__(self, folder: Path, service: str, command: list[str], **settings: Any) -> None:
        self.port = free_port()
        config = folder / "config.yaml"
        config.write_text(yaml.safe_dump({**SETTINGS, "HTTP_PORTS": {service: self.port}, **settings}))
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-W", "ignore", *command, str(config)],
                cwd=ROOT,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            eventually(self.answers)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def answers(self) -> bool:
        """Whether it answers; raises when it has ended instead."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"{self.url}/healthz", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    def end(self) -> None:
        """Stop it, if it has not ended; kill it when it does not stop."""
        self.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def connect(self) -> socket.socket:
        """A connection that nobody has used."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def raw(self, request: bytes) -> "Answer":
        """What the service says to exactly these bytes, until it closes."""
        with closing(self.connect()) as connection:
            connection.sendall(request)
            return Answer(everything(connection))

    def lines(self) -> Iterator[dict[str, Any]]:
        """What it has logged."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{"):
                yield json.loads(line)


class Answer:
    """A response, taken apart."""

    def __init__(self, received: bytes) -> None:
        self.received = received
        head, _, self.body = received.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        self.status = int(first.split(" ")[1]) if first else 0
        self.headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}

    @property
    def problem(self) -> dict[str, Any]:
        """The problem document, checked to be a whole one."""
        members: dict[str, Any] = json.loads(self.body)
        check_problem(members, self.status, self.headers)
        return members


def check_problem(members: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> None:
    """Whether a problem document has all its members and its answer the headers that each has."""
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-content-type-options"] == "nosniff"
    assert members["status"] == status
    assert members["requestId"] == headers["x-request-id"]
    assert members["type"] == f"urn:oms:problem:{members['code']}"
    assert {"title", "detail", "instance"} <= members.keys()


def everything(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    received = b""
    while some := connection.recv(65536):
        received += some
    return received


def one_answer(connection: socket.socket) -> Answer:
    """The next response with a Content-Length on a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(1)
    length = int(Answer(received).headers.get("content-length", 0))
    while length > 0:
        some = connection.recv(length)
        received += some
        length -= len(some)
    return Answer(received)


def free_port() -> int:
    """A port nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def a_token(jti: UUID | None = None, *, expires_in: int = 60) -> str:
    """A customer's token."""
    now = datetime.now(UTC).replace(microsecond=0)
    issued_at = min(now, now + timedelta(seconds=expires_in)) - timedelta(seconds=60)
    principal = Principal(uuid4(), "customer", jti or uuid4(), uuid4(), now + timedelta(seconds=expires_in))
    return issue_token(principal, issued_at, SETTINGS)
