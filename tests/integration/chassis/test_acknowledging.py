"""A message is acknowledged after the commit, by the real unit of work on a real database."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import sessionmaker

from services.chassis import wire
from services.chassis.messaging import EventHandler, event_handler
from services.chassis.relay import OutboxRelay
from services.chassis.tracing import Trace
from services.chassis.work import Begin, Work
from tests.support.fakes import Desk
from tests.support.stage import ThingHappenedEvent
from tests.support.theatre import an_event


class Listener:
    """Writes down what happened; a table whose rule is checked at the commit takes each word once."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin

    @event_handler("teller", ThingHappenedEvent)
    def on_x(self, event: ThingHappenedEvent, work: Work) -> None:
        """Note it."""
        work.session.execute(text("INSERT INTO words VALUES (:what)"), {"what": event.what})


class Workshop:
    """A container that runs the handler at once and then says how that ended, as Nameko does."""

    stopping = False

    def __init__(self, listener: Listener) -> None:
        self.listener = listener

    def spawn_worker(self, _: object, args: Any, *__: object, handle_result: Any, **___: object) -> None:
        """Begin and end."""
        error = None
        try:
            self.listener.on_x(*args)
        except Exception:  # noqa: BLE001 - as Nameko does
            error = sys.exc_info()
        handle_result(None, None, error)


@pytest.fixture
def desk() -> Desk:
    """Nothing has come yet."""
    return Desk()


@pytest.fixture
def handler(engine: Engine, desk: Desk) -> Any:
    """The listener's event handler in front of that desk."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS words (what text UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
        connection.execute(text("TRUNCATE words"))
    made: Any = EventHandler("teller", ThingHappenedEvent)
    made.container = Workshop(Listener(Begin(sessionmaker(engine), OutboxRelay(), Trace("request"))))
    made.queue_consumer, made.redelivery, made.handler = desk, desk, "listener.on_x"
    made.queue, made.turns = SimpleNamespace(name="evt-x"), SimpleNamespace(take=bool, give=bool)
    return made


def a_message(what: str) -> Any:
    """An event that came."""
    return SimpleNamespace(body=wire.encode(an_event(what)), headers={}, content_type="application/json")


def words(engine: Engine) -> list[str]:
    """What was committed."""
    with engine.begin() as connection:
        return list(connection.scalars(text("SELECT what FROM words")))


class TestCommit:
    """What the broker forgets is in the database."""

    def test_comes_before_the_acknowledgement(self, handler: Any, desk: Desk, engine: Engine) -> None:
        """Others see the change by then."""
        seen: list[list[str]] = []
        desk.ack_message = lambda _: seen.append(words(engine))  # type: ignore[method-assign] # looks first

        handler.handle_delivery(a_message("x"))

        assert seen == [["x"]]

    def test_a_commit_that_fails_acknowledges_nothing(self, handler: Any, desk: Desk, engine: Engine) -> None:
        """The handler has ended well; the rule that is checked last has not let it."""
        handler.handle_delivery(a_message("x"))
        handler.handle_delivery(a_message("x"))

        assert desk.fates == ["acknowledged", "put off"]
        assert words(engine) == ["x"]
