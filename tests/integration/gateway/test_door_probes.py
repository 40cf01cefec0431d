"""What a supervisor, a load balancer and Prometheus are told."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tests.integration.gateway.conftest import OpenDoor
from tests.integration.gateway.door import Door
from tests.support.until import eventually


def readiness(door: Door) -> tuple[int, dict[str, Any]]:
    """The status and what it says."""
    answer = requests.get(f"{door.url}/readyz", timeout=10)
    return answer.status_code, answer.json()


def wait_for(door: Door, status: str) -> tuple[int, dict[str, Any]]:
    """The answer with this status, which comes once the answer before it is stale."""
    eventually(lambda: readiness(door)[1]["status"] == status, seconds=10)
    return readiness(door)


class TestHealth:
    """``/healthz``."""

    def test_is_200_while_the_process_lives(self, door: Door, mood: Path) -> None:
        """Whatever it depends on."""
        mood.write_text("database away")

        answer = requests.get(f"{door.url}/healthz", timeout=5)

        assert (answer.status_code, answer.json()) == (200, {"status": "alive", "service": "echo"})


class TestReadiness:
    """``/readyz``."""

    def test_is_200_when_nothing_needed_is_missing(self, door: Door) -> None:
        """What is only wished for degrades it."""
        status, body = wait_for(door, "degraded")

        assert status == 200
        assert body["checks"] == {"mood": "ok", "indifferent": "not there"}

    def test_is_503_and_names_what_is_missing(self, door: Door, mood: Path) -> None:
        """In the words of the dependency."""
        mood.write_text("database away")

        eventually(lambda: readiness(door)[1]["checks"]["mood"] == "database away")

        assert readiness(door)[0] == 503

    def test_does_not_hang_with_a_dependency_that_does(self, door: Door, mood: Path) -> None:
        """Two seconds for all of them, also for many who ask at once."""
        wait_for(door, "degraded")
        mood.write_text("hang")
        wait_for(door, "not ready")

        started = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: readiness(door), range(10)))

        assert time.monotonic() - started < 10  # one after the other they would take twenty
        assert {status for status, _ in answers} == {503}
        assert answers[0][1]["checks"]["mood"] == "no answer in time"

    def test_is_answered_while_all_workers_are_busy(self, open_door: OpenDoor) -> None:
        """A probe takes no worker."""
        door = open_door(ECHO_PAUSE_SECONDS=3)
        with ThreadPoolExecutor(8) as pool:
            busy = [pool.submit(requests.get, f"{door.url}/slow", timeout=20) for _ in range(8)]
            status = requests.get(f"{door.url}/healthz", timeout=5).status_code

            assert (status, [call for call in busy if call.done()]) == (200, [])
            assert {call.result().status_code for call in busy} == {200}


class TestMetrics:
    """``/metrics``."""

    def test_tell_how_long_each_route_takes(self, door: Door) -> None:
        """By template, so that ids make no new series."""
        requests.get(f"{door.url}/echo/6f1e6a42-5c3b-4a3e-9d5b-0a4f3f1f2b11", timeout=5)

        answer = requests.get(f"{door.url}/metrics", timeout=5)

        assert answer.headers["Content-Type"].startswith("text/plain")
        assert 'oms_http_seconds_count{method="GET",route="/echo/<uuid:item_id>",status="200"}' in answer.text
