"""What becomes of a message, said by how its handler ended."""

from types import SimpleNamespace
from typing import Any

import eventlet
import pytest

from services.chassis import wire
from services.chassis.errors import Alarm, NotFound, Unavailable
from services.chassis.messaging import EventHandler, Turns
from services.chassis.redelivery import FAILURES
from tests.support.fakes import MOST_FAILURES, Desk
from tests.support.stage import ThingHappenedEvent
from tests.support.theatre import an_event

CONNECTIONS = 4


class Workshop:
    """A container with free workers, which end in their order when the test says so."""

    def __init__(self) -> None:
        self.shared_extensions: dict[type, object] = {}
        self.config = {"DB_POOL_SIZE": CONNECTIONS}
        self.stopping = False
        self.at_work: list[Any] = []

    def spawn_worker(self, *_: object, handle_result: Any, **__: object) -> None:
        """Begin."""
        self.at_work.append(handle_result)

    def end(self, error: Exception | None = None) -> None:
        """The first handler has returned, its transaction committed; or it has raised this."""
        self.at_work.pop(0)(None, None, (type(error), error, None) if error else None)


@pytest.fixture
def desk() -> Desk:
    """Nothing has come yet."""
    return Desk()


@pytest.fixture
def handler(desk: Desk) -> Any:
    """An event handler in front of that desk."""
    return behind(desk, once=True)


def behind(desk: Desk, *, once: bool) -> Any:
    """An event handler of a workshop of its own."""
    made: Any = EventHandler("teller", ThingHappenedEvent, once=once)
    made.container, made.queue_consumer, made.redelivery = Workshop(), desk, desk
    made.queue, made.handler = SimpleNamespace(name="evt-x"), "listener.on_x"
    made.turns = Turns().bind(made.container)
    made.turns.setup()
    return made


def bring(handler: Any, count: int) -> None:
    """So many events come at once."""
    for _ in range(count):
        eventlet.spawn(handler.handle_delivery, a_message())
    go_on()


def go_on() -> None:
    """Whoever can do something has done it."""
    for _ in range(10):
        eventlet.sleep(0)


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


class TestTurns:
    """More events than there are connections to the database."""

    def test_half_of_the_connections_are_left_to_calls(self, handler: Any, desk: Desk) -> None:
        """One event begins for each that ends, well or not, and all have their turn."""
        bring(handler, 5)
        assert len(handler.container.at_work) == CONNECTIONS // 2

        for error in (None, Unavailable("away", "Away."), Alarm("never")):
            handler.container.end(error)
            go_on()
            assert len(handler.container.at_work) == CONNECTIONS // 2

        handler.container.end()
        handler.container.end()
        assert desk.fates == ["acknowledged", "put off", "given up", "acknowledged", "acknowledged"]

    def test_without_a_database_nobody_waits(self, desk: Desk) -> None:
        """There is nothing to share."""
        handler = behind(desk, once=False)

        bring(handler, 5)

        assert len(handler.container.at_work) == 5

    def test_who_waited_until_the_service_stops_goes_back_to_the_queue(self, handler: Any, desk: Desk) -> None:
        """Another instance may begin at once; what was begun is ended."""
        bring(handler, 5)
        handler.container.stopping = True

        handler.container.end()
        handler.container.end()
        go_on()

        assert handler.container.at_work == []
        assert sorted(desk.fates) == ["acknowledged"] * 2 + ["given back"] * 3
