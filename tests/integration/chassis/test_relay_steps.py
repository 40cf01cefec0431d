"""What a commit leaves for the relay, and what the relay makes of it, one batch at a time."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, sessionmaker

from services.chassis import outbox
from services.chassis.broker import Message
from services.chassis.relay import OutboxRelay
from services.chassis.tracing import Trace
from services.chassis.work import Begin
from tests.integration.chassis.conftest import a_thing
from tests.property.crashes import Crash, Fuse, Killed
from tests.support.fakes import Bell
from tests.support.stage import Seen


class Post:
    """Takes every message but those it refuses."""

    def __init__(self) -> None:
        self.taken: list[UUID] = []
        self.refuses: set[UUID] = set()

    def publish(self, messages: Sequence[Message]) -> dict[int, str]:
        """The index and reason of each that it refuses."""
        ids = [UUID(message.properties["message_id"]) for message in messages]
        self.taken += [each for each in ids if each not in self.refuses]
        return {index: "no queue is bound for it" for index, each in enumerate(ids) if each in self.refuses}


@pytest.fixture
def post() -> Post:
    """Has taken nothing yet."""
    return Post()


@pytest.fixture
def relay(engine: Engine, post: Post) -> OutboxRelay:
    """Carries what will lie in that database to that post."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE outbox"))
    made: Any = OutboxRelay()
    made.container = SimpleNamespace(service_name="teller")
    made._engine, made._publisher = engine, post
    carried: OutboxRelay = made
    return carried


def tell(session: Session) -> UUID:
    """Something that happened, in the outbox of the session's transaction; the event's id."""
    event = a_thing()
    outbox.add(session, [event], Trace("request"))
    return event.event_id


class TestCommit:
    """A change and the news of it."""

    def test_leaves_both_when_the_process_dies_with_it(self, engine: Engine) -> None:
        """The event lies in the outbox already: nobody is left to tell it but the next relay."""
        event, sessions = a_thing(), sessionmaker(engine, expire_on_commit=False)
        begin = Begin(sessions, cast("OutboxRelay", Bell()), Trace("request"))
        Fuse(sessions).arm(Crash.AFTER, commits=1)

        def change() -> None:
            with begin() as work:
                work.session.add(Seen(event_id=event.event_id, what=event.what))
                work.publish(event)

        with pytest.raises(Killed):
            change()

        count = text(
            "SELECT (SELECT count(*) FROM seen WHERE event_id = :id), count(*) FROM outbox WHERE event_id = :id"
        )
        with engine.connect() as connection:
            assert tuple(connection.execute(count, {"id": event.event_id}).one()) == (1, 1)


class TestCarry:
    """A batch is every row that is due, whenever it was written."""

    def test_takes_what_was_written_first_and_committed_last(
        self, relay: OutboxRelay, post: Post, engine: Engine
    ) -> None:
        """Its number is smaller than one that has left already."""
        sessions = sessionmaker(engine)
        with sessions.begin() as slow:
            first = tell(slow)
            with sessions.begin() as quick:
                second = tell(quick)
            relay.carry()
            assert post.taken == [second]

        relay.carry()

        assert post.taken == [second, first]

    def test_marks_only_what_the_broker_took(self, relay: OutboxRelay, post: Post, engine: Engine) -> None:
        """What it refused is still to be told."""
        with sessionmaker(engine).begin() as session:
            refused, taken = tell(session), tell(session)
        post.refuses = {refused}

        relay.carry()

        query = text("SELECT event_id, last_error FROM outbox WHERE event_id = ANY(:ids) AND published_at IS NULL")
        with engine.connect() as connection:
            waiting = connection.execute(query, {"ids": [refused, taken]}).all()
        assert [tuple(row) for row in waiting] == [(refused, "no queue is bound for it")]
