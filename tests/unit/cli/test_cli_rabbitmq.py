"""The private broker: what it is told, and how it is asked."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cli.servers.ports import LOOPBACK, Ports
from cli.servers.rabbitmq import RabbitMQ


class Management(BaseHTTPRequestHandler):
    """A management API that is content with everything."""

    def do_GET(self) -> None:
        """Fine."""
        self.send_response(200)
        self.end_headers()


@pytest.fixture
def port() -> Iterator[int]:
    """Where a broker seems to be."""
    with HTTPServer((LOOPBACK, 0), Management) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def rabbitmq(tmp_path: Path, port: int) -> RabbitMQ:
    """A broker whose ports are known."""
    (tmp_path / "ports.json").write_text(json.dumps({"rabbitmq": port, "management": port}))
    return RabbitMQ(tmp_path, tmp_path / "secrets", Ports(tmp_path / "ports.json"), durable=True)


class TestRabbitMQ:
    """One broker."""

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
    def test_is_asked_without_a_proxy(self, rabbitmq: RabbitMQ, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Which would look for it on another machine."""
        monkeypatch.setenv(variable, "http://192.0.2.1:3128")

        assert rabbitmq.ready()

    def test_is_not_ready_when_nobody_knows_where_it_is(self, rabbitmq: RabbitMQ) -> None:
        """As after a power cut that emptied the file."""
        rabbitmq.ports.file.write_text("")

        assert not rabbitmq.ready()

    def test_lets_nobody_in_without_a_password(self, rabbitmq: RabbitMQ) -> None:
        """Newer versions know anonymous guests; this one has neither them nor the well-known account."""
        lines = rabbitmq.configuration().splitlines()

        assert {line for line in lines if line.startswith("auth_mechanisms")} == {
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = AMQPLAIN",
        }
        assert f"load_definitions = {rabbitmq.home}/definitions.json" in lines
