"""What happens together, what happens afterwards, and what does not happen at all."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import sessionmaker
from time_machine import travel

from services.chassis.errors import Conflict, Unavailable
from services.chassis.relay import OutboxRelay
from services.chassis.tracing import Trace
from services.chassis.work import Begin, Delivery, Work
from tests.integration.chassis.conftest import a_thing
from tests.support.stage import Seen, ThingHappenedEvent


class Relay(OutboxRelay):
    """Counts how often it was woken."""

    woken = 0

    def wake(self) -> None:
        """Once more."""
        self.woken += 1


@pytest.fixture(scope="module", autouse=True)
def _late(engine: Engine) -> None:
    """A rule that is checked at the commit."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE late (x int UNIQUE DEFERRABLE INITIALLY DEFERRED)"))


@pytest.fixture
def relay() -> Relay:
    """What a commit with events wakes."""
    return Relay()


@pytest.fixture
def begin(engine: Engine, relay: Relay) -> Begin:
    """Opens units of work for a request named ``request``."""
    return Begin(sessionmaker(engine, expire_on_commit=False), relay, Trace("request"))


def count(engine: Engine, table: str, event: ThingHappenedEvent) -> int:
    """How many rows there are for the event."""
    with engine.begin() as connection:
        query = text(f"SELECT count(*) FROM {table} WHERE event_id = :id")  # noqa: S608 - our own names
        return int(connection.execute(query, {"id": event.event_id}).scalar_one())


def see(work: Work, event: ThingHappenedEvent) -> None:
    """A change of state."""
    work.session.add(Seen(event_id=event.event_id, what=event.what))


class TestBegin:
    """All of it or nothing."""

    def test_commits_change_and_event_together(self, begin: Begin, engine: Engine, relay: Relay) -> None:
        """And wakes the relay."""
        event = a_thing()

        with begin() as work:
            see(work, event)
            work.publish(event)
            assert relay.woken == 0

        assert (count(engine, "seen", event), count(engine, "outbox", event), relay.woken) == (1, 1, 1)

    def test_marks_events_with_the_request(self, begin: Begin, engine: Engine) -> None:
        """In the row and in the payload."""
        event = a_thing()

        with begin() as work:
            work.publish(event)

        query = text("SELECT correlation_id, payload::json ->> 'correlation_id' FROM outbox WHERE event_id = :id")
        with engine.begin() as connection:
            assert tuple(connection.execute(query, {"id": event.event_id}).one()) == ("request", "request")

    def test_rolls_both_back(self, begin: Begin, engine: Engine, relay: Relay) -> None:
        """The error passes as it is."""
        event = a_thing()

        def fail() -> None:
            with begin() as work:
                see(work, event)
                work.publish(event)
                raise Conflict("no", "No.")

        with pytest.raises(Conflict):
            fail()

        assert (count(engine, "seen", event), count(engine, "outbox", event), relay.woken) == (0, 0, 0)

    def test_has_one_time(self, begin: Begin) -> None:
        """In UTC, taken when it began."""
        before = datetime.now(UTC)

        with begin() as work:
            assert before <= work.now <= datetime.now(UTC)


class TestAfterCommit:
    """What must not happen for nothing."""

    def test_runs_once_the_commit_has_succeeded(self, begin: Begin, engine: Engine) -> None:
        """In order; others see the change by then."""
        event, found = a_thing(), list[object]()

        with begin() as work:
            see(work, event)
            work.after_commit(lambda: found.append(count(engine, "seen", event)))
            work.after_commit(lambda: found.append("second"))
            assert found == []

        assert found == [1, "second"]

    def test_does_not_run_after_an_error(self, begin: Begin) -> None:
        """Nothing happened."""
        found = list[object]()

        def fail() -> None:
            with begin() as work:
                work.after_commit(lambda: found.append(1))
                raise Conflict("no", "No.")

        with pytest.raises(Conflict):
            fail()

        assert found == []

    def test_does_not_run_when_the_commit_itself_fails(self, begin: Begin) -> None:
        """A constraint that is checked last."""
        found = list[object]()

        def fail() -> None:
            with begin() as work:
                work.after_commit(lambda: found.append(1))
                work.session.execute(text("INSERT INTO late VALUES (1), (1)"))

        with pytest.raises(IntegrityError):
            fail()

        assert found == []


class TestOnce:
    """For one delivery to one handler."""

    def test_opens_the_first_time_only(self, begin: Begin, engine: Engine) -> None:
        """The second time there is nothing to do."""
        event = a_thing()
        delivery = Delivery(event, "listener.on_x", 1)

        with begin.once(delivery) as first:
            assert first is not None
            see(first, event)
        with begin.once(delivery) as second:
            assert second is None

        assert count(engine, "seen", event) == 1

    def test_each_handler_has_its_own_first_time(self, begin: Begin) -> None:
        """They do not know of each other."""
        event = a_thing()

        with (
            begin.once(Delivery(event, "listener.on_x", 1)) as one,
            begin.once(Delivery(event, "listener.on_y", 1)) as two,
        ):
            assert one is not None
            assert two is not None

    def test_a_failure_was_no_first_time(self, begin: Begin) -> None:
        """The inbox row went with the rest."""
        delivery = Delivery(a_thing(), "listener.on_x", 1)

        with pytest.raises(Conflict), begin.once(delivery):
            raise Conflict("no", "No.")

        with begin.once(delivery) as again:
            assert again is not None

    def test_what_it_publishes_names_its_cause(self, begin: Begin, engine: Engine) -> None:
        """The event that was delivered, and its request when that is sane."""
        cause = ThingHappenedEvent(occurred_at=datetime.now(UTC), what="x", correlation_id="first-request")
        effect, wild = a_thing(), a_thing()

        with begin.once(Delivery(cause, "listener.on_x", 1)) as work:
            assert work is not None
            work.publish(effect)
        wild_cause = ThingHappenedEvent(occurred_at=datetime.now(UTC), what="x", correlation_id="x" * 500)
        with begin.once(Delivery(wild_cause, "listener.on_x", 1)) as work:
            assert work is not None
            work.publish(wild)

        query = text("SELECT correlation_id, causation_id FROM outbox WHERE event_id = :id")
        with engine.begin() as connection:
            row = connection.execute(query, {"id": effect.event_id}).one()
            assert tuple(row) == ("first-request", cause.event_id)
            assert connection.execute(query, {"id": wild.event_id}).one()[0] == "request"

    def test_its_outcome_can_be_noted(self, begin: Begin, engine: Engine) -> None:
        """For the order's journey."""
        event = a_thing()

        with begin.once(Delivery(event, "listener.on_x", 3)) as work:
            assert work is not None
            work.note("nothing_to_do")

        query = text("SELECT outcome, attempt FROM inbox WHERE event_id = :id")
        with engine.begin() as connection:
            assert tuple(connection.execute(query, {"id": event.event_id}).one()) == ("nothing_to_do", 3)


class TestTime:
    """What was written is compared by PostgreSQL, so it goes by PostgreSQL's clock."""

    @pytest.mark.parametrize("hours", [2, -2])
    def test_is_the_databases_whatever_the_process_believes(self, begin: Begin, hours: int) -> None:
        """Also for an event; and it stands still while the work goes on."""
        elapsed = text("SELECT extract(epoch FROM clock_timestamp() - CAST(:then AS timestamptz))")

        with travel(timedelta(hours=hours)), begin() as work, begin.once(Delivery(a_thing(), "l.on_x", 1)) as answer:
            assert answer is not None
            for each in (work, answer):
                assert 0 <= each.session.execute(elapsed, {"then": each.now}).scalar_one() < 60
            first = work.now
            work.session.execute(text("SELECT pg_sleep(0.01)"))
            assert (work.now, work.now.tzinfo) == (first, UTC)


class TestDatabaseErrors:
    """What is the database's fault is Unavailable."""

    def test_a_lock_that_is_held_too_long_is_unavailable(self, begin: Begin, engine: Engine) -> None:
        """It may be free the next time."""

        def wait_for_it() -> None:
            with begin() as work:
                work.session.execute(text("SET LOCAL lock_timeout = '100ms'"))
                see(work, a_thing())

        with engine.begin() as holder:
            holder.execute(text("LOCK TABLE seen"))

            with pytest.raises(Unavailable, match="database_unavailable"):
                wait_for_it()

    def test_a_broken_rule_is_not(self, begin: Begin) -> None:
        """It will be broken again."""
        with pytest.raises(IntegrityError), begin() as work:
            work.session.execute(text("INSERT INTO seen (what) VALUES ('x')"))

    def test_a_database_that_only_reads_is_unavailable(self, begin: Begin) -> None:
        """As one is for a moment when another takes over."""
        with pytest.raises(Unavailable), begin() as work:
            work.session.execute(text("SET TRANSACTION READ ONLY; CREATE TABLE never (id int)"))

    def test_a_connection_that_was_ended_is_unavailable(self, begin: Begin) -> None:
        """The next unit of work has a good one."""
        with pytest.raises(Unavailable), begin() as work:
            work.session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        with begin() as work:
            assert work.session.execute(text("SELECT 1")).scalar_one() == 1
