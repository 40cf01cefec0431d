"""Events travel from one service's commit to another's, exactly once in effect."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from nameko.standalone.events import event_dispatcher

from cli.configuration import configuration
from tests.support.theatre import DELAYS_MS, EVENT, QUEUE, Theatre, an_event
from tests.support.until import eventually

MOST_ATTEMPTS = 5


def duplicates(theatre: Theatre) -> float:
    """How many deliveries the listener found to be repeats."""
    return theatre.listener.metric("oms_inbox_duplicates_total")


def dispatcher(theatre: Theatre) -> Callable[..., Any]:
    """What ``nameko shell`` calls ``n.dispatch_event``, as the operator."""
    dispatch: Callable[..., Any] = event_dispatcher(configuration() | {"AMQP_URI": theatre.amqp_url("operator")})
    return dispatch


class TestExactlyOnce:
    """However often an event is delivered, it takes effect once."""

    def test_three_hundred_events_are_each_seen_once(self, theatre: Theatre) -> None:
        """Nothing is lost, doubled or left in the outbox."""
        ids = theatre.tell(*["x"] * 300)

        eventually(lambda: theatre.seen(*ids) >= 300)
        eventually(lambda: theatre.waiting() == 0)
        assert theatre.seen(*ids) == len(set(ids)) == 300
        assert theatre.take_letter() is None

    def test_an_event_that_comes_twice_is_seen_once(self, theatre: Theatre) -> None:
        """The second finds the first in the inbox."""
        event, before = an_event(), duplicates(theatre)

        theatre.send(event)
        theatre.send(event)

        eventually(lambda: duplicates(theatre) == before + 1)
        assert theatre.seen(event["event_id"]) == 1

    def test_ten_deliveries_at_once_are_seen_once(self, theatre: Theatre) -> None:
        """They wait for each other in the inbox."""
        event, before = an_event("sleep 0.2"), duplicates(theatre)

        for _ in range(10):
            theatre.send(event)

        eventually(lambda: duplicates(theatre) == before + 9)
        assert theatre.seen(event["event_id"]) == 1

    def test_an_event_dispatched_by_hand_twice_is_seen_once(self, theatre: Theatre) -> None:
        """Stock Nameko's dispatcher with the operator's rights; the id follows from the content."""
        what, before = f"by hand {uuid4()}", duplicates(theatre)
        dispatch = dispatcher(theatre)

        dispatch("teller", EVENT, {"what": what})
        dispatch("teller", EVENT, {"what": what})

        eventually(lambda: duplicates(theatre) == before + 1)
        assert len(theatre.rows("listener", "SELECT 1 FROM seen WHERE what = :what", what=what)) == 1

    def test_the_inbox_knows_what_was_answered(self, theatre: Theatre) -> None:
        """Handler, type, cause and attempt stand beside the event's id."""
        cause = str(uuid4())
        event = an_event(causation_id=cause)

        theatre.send(event)

        query = "SELECT handler, event_type, causation_id, attempt, outcome FROM inbox WHERE event_id = :id"
        row = eventually(lambda: theatre.rows("listener", query, id=event["event_id"]))[0]
        assert row[:2] == ("listener.on_thing_happened", EVENT)
        assert (str(row[2]), *row[3:]) == (cause, 1, "done")


class TestProcesses:
    """A process that ends leaves nothing half done."""

    def test_terminating_under_load_doubles_and_loses_nothing(self, theatre: Theatre) -> None:
        """What runs is finished and acknowledged; the rest waits for the next process."""
        ids = theatre.tell(*["sleep 0.1"] * 200)
        eventually(lambda: theatre.seen(*ids) > 10)
        before = duplicates(theatre)

        code, seconds = theatre.listener.stop()
        seen = theatre.seen(*ids)
        theatre.listener.restart()

        assert (code, seconds < 6, seen < 200, before) == (0, True, True, before)
        eventually(lambda: theatre.seen(*ids) >= 200)
        eventually(lambda: theatre.queued(QUEUE) == 0)
        assert theatre.seen(*ids) == 200
        assert duplicates(theatre) == 0, "a message was worked on and not acknowledged"

    def test_killing_in_mid_handling_doubles_and_loses_nothing(self, theatre: Theatre) -> None:
        """The broker delivers again what was not acknowledged; the transaction was never committed."""
        ids = theatre.tell(*["sleep 0.5"] * 20)
        eventually(lambda: theatre.is_busy("listener", "idle in transaction"))

        theatre.listener.kill()
        theatre.listener.restart()

        eventually(lambda: theatre.seen(*ids) >= 20)
        assert theatre.seen(*ids) == 20


class TestFailures:
    """What a handler raises decides what becomes of the event."""

    def test_a_passing_failure_is_retried_until_it_has_passed(self, theatre: Theatre, tmp_path: Path) -> None:
        """At growing distances, more often than a lasting one would be, and never among the dead letters."""
        gate = tmp_path / "gate"
        event = an_event(f"until {gate}")

        def delays() -> list[int]:
            lines = theatre.listener.lines()
            mine = [line for line in lines if line.get("correlation_id") == event["correlation_id"]]
            return [line["delay_ms"] for line in mine if line["event"] == "event_put_off"]

        theatre.send(event)
        eventually(lambda: len(delays()) > MOST_ATTEMPTS + 1)
        assert theatre.seen(event["event_id"]) == 0
        gate.touch()

        eventually(lambda: theatre.seen(event["event_id"]) == 1)
        assert delays()[:5] == [*DELAYS_MS, DELAYS_MS[-1], DELAYS_MS[-1]]
        assert theatre.take_letter() is None
        query = "SELECT attempt FROM inbox WHERE event_id = :id"
        assert theatre.rows("listener", query, id=event["event_id"])[0][0] == len(delays()) + 1

    def test_a_lasting_failure_is_given_up_after_some_attempts(self, theatre: Theatre) -> None:
        """The dead letter is the message as it was, and says what went wrong, where, when and how often."""
        event = an_event("unknown")
        headers = {"x-mine": "kept", "x-number": 7}

        theatre.send(event, application_headers=headers, message_id=event["event_id"])

        letter = theatre.letter()
        assert event["event_id"].encode() in letter.body
        assert letter.properties["message_id"] == event["event_id"]
        assert headers.items() <= letter.headers.items()
        assert letter.headers["x-oms-kind"] == "lasting"
        assert letter.headers["x-oms-reason"] == "NotFound: unknown: Never heard of it."
        assert letter.headers["x-oms-service"] == "listener"
        assert letter.headers["x-oms-handler"] == "listener.on_thing_happened"
        assert letter.headers["x-oms-queue"] == QUEUE
        assert letter.headers["x-oms-attempt"] == letter.headers["x-oms-failures"] == MOST_ATTEMPTS
        age = datetime.now(UTC) - datetime.fromisoformat(letter.headers["x-oms-failed-at"])
        assert timedelta(0) < age < timedelta(seconds=10)
        assert theatre.seen(event["event_id"]) == 0

    def test_an_alarm_is_given_up_at_once(self, theatre: Theatre) -> None:
        """One attempt, one error in the log."""
        event = an_event("alarm")

        theatre.send(event)

        letter = theatre.letter()
        assert (letter.headers["x-oms-kind"], letter.headers["x-oms-attempt"]) == ("alarm", 1)
        assert letter.headers["x-oms-reason"] == "Alarm: this must never happen"

    def test_a_bug_is_in_the_log_with_its_traceback(self, theatre: Theatre) -> None:
        """Once per attempt, under the correlation id of the request that began it."""
        event = an_event("bug")

        theatre.send(event)
        theatre.letter()

        mine = [line for line in theatre.listener.lines() if line.get("correlation_id") == event["correlation_id"]]
        bugs = [line for line in mine if line["event"] == "handler_failed"]
        assert [line["attempt"] for line in bugs] == [1, 2, 3, 4, 5]
        assert all("the floor is missing" in line["exception"] for line in bugs)
        assert [line["event"] for line in mine].count("dead_letter") == 1

    def test_a_failing_event_holds_up_no_other(self, theatre: Theatre) -> None:
        """It waits in a queue of its own."""
        bad = an_event("unknown")
        theatre.send(bad)

        ids = theatre.tell(*["x"] * 20)

        eventually(lambda: theatre.seen(*ids) == 20)
        assert theatre.letter().headers["x-oms-kind"] == "lasting"
