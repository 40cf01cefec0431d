from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import eventlet
import pytest
from structlog.testing import capture_logs

from cli.configuration import configuration
from services.chassis.container import ServiceContainer
from services.chassis.timer import timer

EVERY = 0.02


class ClockService:
    """Fails in every second round."""

    name = "gateway"
    rounds: ClassVar[list[int]] = []

    @timer(setting="EVERY")
    def tick(self) -> None:
        """One round."""
        self.rounds.append(len(self.rounds))
        if len(self.rounds) % 2:
            raise RuntimeError("the spring broke")


@contextmanager
def running(**settings: Any) -> Iterator[ServiceContainer]:
    """The service in its container, stopped afterwards."""
    ClockService.rounds.clear()
    container = ServiceContainer(ClockService, configuration() | settings)
    container.start()
    try:
        yield container
    finally:
        container.stop()


class TestTimer:
    """A method that runs again and again."""

    def test_goes_on_after_an_error_and_logs_it_once(self) -> None:
        """Each round that failed has one line with its traceback."""
        with capture_logs() as lines, running(EVERY=EVERY), eventlet.Timeout(5):
            while len(ClockService.rounds) < 6:
                eventlet.sleep(0.005)

        failed = [line for line in lines if line["event"] == "worker_failed"]
        assert len(failed) in (3, 4)
        assert {line["method"] for line in failed} == {"tick"}

    @pytest.mark.parametrize("value", [None, 0, -1, "often"])
    def test_needs_a_distance(self, value: object) -> None:
        """Or the service does not start."""
        with pytest.raises(SystemExit, match="EVERY"), running(EVERY=value):
            pytest.fail("it started")
