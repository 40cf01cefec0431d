"""What becomes of a message, said by how its handler ended."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis import wire
from services.chassis.errors import Alarm, NotFound, Unavailable
from services.chassis.messaging import EventHandler
from services.chassis.redelivery import FAILURES
from tests.support.fakes import MOST_FAILURES, Desk
from tests.support.stage import ThingHappenedEvent
from tests.support.theatre import an_event


class Workshop:
    """A container that has a free worker, which ends when the test says so."""

    def spawn_worker(self, *_: object, handle_result: Any, **__: object) -> None:
        """Begin."""
        self.settle = handle_result

    def end(self, error: Exception | None = None) -> None:
        """The handler has returned, its transaction committed; or it has raised this."""
        self.settle(None, None, (type(error), error, None) if error else None)


@pytest.fixture
def desk() -> Desk:
    """Nothing has come yet."""
    return Desk()


@pytest.fixture
def handler(desk: Desk) -> Any:
    """An event handler in front of that desk."""
    made: Any = EventHandler("teller", ThingHappenedEvent)
    made.container, made.queue_consumer, made.redelivery = Workshop(), desk, desk
    made.queue, made.handler = SimpleNamespace(name="evt-x"), "listener.on_x"
    return made


def a_message(failures: int = 0) -> Any:
    """An event that came, having failed so often before."""
    return SimpleNamespace(body=wire.encode(an_event()), headers={FAILURES: failures}, content_type="application/json")


class TestEventHandler:
    """A message and its fate."""

    def test_acknowledges_once_all_is_committed(self, handler: Any, desk: Desk) -> None:
        """Killed before that, the broker still has it."""
        handler.handle_delivery(a_message())
        assert desk.fates == []

        handler.container.end()

        assert desk.fates == ["acknowledged"]

    @pytest.mark.parametrize(
        ("error", "failures", "fate"),
        [
            (Unavailable("away", "Away."), 0, "put off"),
            (Unavailable("away", "Away."), 1000, "put off"),
            (NotFound("unknown", "Unknown."), 0, "put off"),
            (RuntimeError("a bug"), MOST_FAILURES - 2, "put off"),
            (RuntimeError("a bug"), MOST_FAILURES - 1, "given up"),
            (Alarm("never"), 0, "given up"),
        ],
        ids=["passing", "passing for long", "lasting", "a bug", "a bug to the end", "alarm"],
    )
    def test_lets_the_error_decide(self, handler: Any, desk: Desk, error: Exception, failures: int, fate: str) -> None:
        """What passes is tried for as long as that lasts, what lasts a few times, an alarm once."""
        handler.handle_delivery(a_message(failures))

        handler.container.end(error)

        assert desk.fates == [fate]

    def test_gives_up_at_once_what_is_no_event(self, handler: Any, desk: Desk) -> None:
        """No worker is troubled."""
        message = a_message()
        message.body = b"{"

        handler.handle_delivery(message)

        assert desk.fates == ["given up"]
