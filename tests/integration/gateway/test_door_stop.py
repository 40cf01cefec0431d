"""SIGTERM: no new clients, an answer for those who were in, and an end."""

import socket
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import requests

from tests.integration.gateway.conftest import ECHO
from tests.integration.gateway.door import Answer, Door, everything, free_port, one_answer
from tests.support.until import eventually

HOST = b"Host: localhost\r\n"
PROBES = ["-m", "nameko", "run", "tests.integration.gateway.quiet_service:QuietService", "--config"]
OpenDoor = Callable[[], Door]


@pytest.fixture
def door(tmp_path: Path) -> Door:
    """An echo service of this test's own, not yet started."""
    mood = tmp_path / "mood"
    mood.touch()
    return Door(tmp_path, "echo", ECHO, MOOD_FILE=str(mood), ECHO_PAUSE_SECONDS=2, HTTP_KEEPALIVE_SECONDS=60)


class TestStop:
    """A service that is asked to stop."""

    def test_answers_who_was_in_and_nobody_else(self, door: Door) -> None:
        """Running requests and waiting ones get their answer with ``Connection: close``; the port is closed at once."""
        with door:
            running = [door.connect() for _ in range(8)]  # twice as many as workers
            for connection in running:
                connection.sendall(b"GET /slow HTTP/1.1\r\n" + HOST + b"\r\n")
            assert door.answers()  # who came before us has been read by now

            door.terminate()

            eventually(lambda: not can_connect(door), seconds=1.8)  # while the first are still at work
            for connection in running:
                answer = Answer(everything(connection))
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                connection.close()
            assert door.process.wait(timeout=5) == 0

    def test_waits_for_no_idle_client(self, door: Door) -> None:
        """Kept-alive, silent or half-way through its headers."""
        with door, closing(door.connect()) as idle, closing(door.connect()), closing(door.connect()) as slow:
            idle.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
            one_answer(idle)
            slow.sendall(b"GET /healthz HTT")
            assert door.answers()

            door.terminate()

            assert door.process.wait(timeout=8) == 0  # those who are at work would have ten

    def test_is_quick_when_nothing_runs(self, door: Door) -> None:
        """Also for a process that sleeps in its hub."""
        with door:
            door.terminate()

            assert door.process.wait(timeout=8) == 0

    def test_ends_a_service_that_has_only_probes(self, tmp_path: Path) -> None:
        """A server that no handler started is stopped by the probes."""
        with Door(tmp_path, "quiet", PROBES) as door:
            assert requests.get(f"{door.url}/readyz", timeout=5).json()["status"] == "ready"

            door.terminate()

            assert door.process.wait(timeout=10) == 0


class TestStart:
    """A service that looks for its port."""

    def test_is_refused_on_a_port_that_is_taken(self, door: Door, tmp_path: Path) -> None:
        """Two services on one port would answer each other's clients."""
        with door:
            folder = tmp_path / "second"
            folder.mkdir()
            second = Door(folder, "quiet", PROBES, HTTP_PORTS={"quiet": door.port})

            assert second.process.wait(timeout=10) != 0
            assert f"cannot listen on 127.0.0.1:{door.port}" in second.log.read_text()

    def test_shares_a_port_that_is_meant_to_be_shared(self, tmp_path: Path) -> None:
        """Several instances of the gateway on one host, when both are told so."""
        port = free_port()
        settings = {"HTTP_PORTS": {"quiet": port}, "HTTP_SHARE_PORT": True}
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        first = Door(tmp_path / "a", "quiet", PROBES, **settings)
        second = Door(tmp_path / "b", "quiet", PROBES, **settings)
        first.url = second.url = f"http://127.0.0.1:{port}"

        with first, second:
            for door in (first, second):
                eventually(partial(has_started, door))

            assert requests.get(f"{first.url}/healthz", timeout=5).status_code == 200


def has_started(door: Door) -> bool:
    """Whether it has said that it listens."""
    return "http_listening" in door.log.read_text()


def can_connect(door: Door) -> bool:
    """Whether somebody still listens."""
    try:
        socket.create_connection(("127.0.0.1", door.port), timeout=1).close()
    except ConnectionError:
        return False
    return True
