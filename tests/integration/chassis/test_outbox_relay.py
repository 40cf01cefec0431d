"""What was committed reaches the broker, and is marked only then; what was not committed never leaves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID, uuid4

from tests.support.theatre import EVENT, Theatre, an_event
from tests.support.until import eventually


def commit(theatre: Theatre, event_type: str = EVENT, attempts: int = 0) -> UUID:
    """A row in the teller's outbox that no process was told of; its event's id."""
    event = an_event()
    theatre.execute(
        "teller",
        "INSERT INTO outbox (event_id, event_type, correlation_id, payload, attempts)"
        " VALUES (:id, :type, 'test', :payload, :attempts)",
        id=event["event_id"],
        type=event_type,
        payload=json.dumps(event),
        attempts=attempts,
    )
    return UUID(event["event_id"])


def row(theatre: Theatre, event_id: UUID) -> tuple[int, bool, str | None]:
    """Attempts, whether it was published, and the last error."""
    query = "SELECT attempts, published_at IS NOT NULL, last_error FROM outbox WHERE event_id = :id"
    attempts, published, last_error = theatre.rows("teller", query, id=event_id)[0]
    return attempts, published, last_error


@contextmanager
def spy(theatre: Theatre, routing_key: str) -> Iterator[str]:
    """A queue that gets a copy of everything with this routing key."""
    broker, vhost, name = theatre.vhost.broker, theatre.vhost.name, f"spy-{uuid4()}"
    broker.put("queues", vhost, name, body={"durable": True, "arguments": {"x-queue-type": "classic"}})
    broker.post("bindings", vhost, "e", "teller.events", "q", name, body={"routing_key": routing_key})
    yield name
    broker.delete("queues", vhost, name)


class TestRelay:
    """Every row once, in the end, whatever happens to a process."""

    def test_an_event_leaves_as_everybody_expects(self, theatre: Theatre) -> None:
        """Persistent JSON, named by its id, type and request."""
        with spy(theatre, EVENT) as queue:
            (event_id,) = theatre.tell("x")
            eventually(lambda: theatre.queued(queue) == 1)
            found = theatre.connect().channel().basic_get(queue, no_ack=True)

        query = "SELECT correlation_id, payload FROM outbox WHERE event_id = :id"
        correlation, payload = theatre.rows("teller", query, id=event_id)[0]
        assert found.properties["message_id"] == str(event_id)
        assert found.properties["correlation_id"] == correlation
        assert (found.properties["type"], found.properties["delivery_mode"]) == (EVENT, 2)
        assert (found.properties["content_type"], found.properties["content_encoding"]) == ("application/json", "utf-8")
        assert found.body == payload

    def test_nothing_leaves_a_transaction_that_was_rolled_back(self, theatre: Theatre) -> None:
        """Neither a row nor a message."""
        with spy(theatre, EVENT) as queue, theatre.calls() as call:
            assert call("teller.tell", "x", "rollback")["error"]["exc_type"] == "Conflict"
            theatre.tell("after")

            eventually(lambda: theatre.queued(queue) > 0)
            assert theatre.queued(queue) == 1
            assert not theatre.rows("teller", "SELECT 1 FROM outbox WHERE payload LIKE '%rollback%'")

    def test_a_row_that_no_queue_wants_waits_alone(self, theatre: Theatre) -> None:
        """It says why, blocks nobody, and leaves once somebody is bound to it - one time."""
        lonely = commit(theatre, "NobodyAsksEvent")
        eventually(lambda: row(theatre, lonely)[0] > 0)

        others = theatre.tell(*["x"] * 5)

        eventually(lambda: theatre.seen(*others) == 5)
        assert row(theatre, lonely)[1:] == (False, "no queue is bound for it")
        with spy(theatre, "NobodyAsksEvent") as queue:
            eventually(lambda: row(theatre, lonely)[1])
            assert theatre.queued(queue) == 1
        assert row(theatre, lonely)[2] is None

    def test_a_row_that_was_refused_for_months_harms_nobody(self, theatre: Theatre) -> None:
        """Its distance stays below five minutes."""
        old = commit(theatre, "NobodyAsksEvent", attempts=5000)

        eventually(lambda: row(theatre, old)[0] > 5000)

        query = "SELECT extract(epoch FROM next_attempt_at - now()) FROM outbox WHERE event_id = :id"
        assert 290 < theatre.rows("teller", query, id=old)[0][0] <= 300
        (after,) = theatre.tell("x")
        eventually(lambda: theatre.seen(after) == 1)
        theatre.execute("teller", "DELETE FROM outbox WHERE event_id = :id", id=old)

    def test_rows_survive_the_death_of_their_process(self, theatre: Theatre) -> None:
        """The next one carries them."""
        theatre.teller.kill()
        left = [commit(theatre) for _ in range(150)]

        theatre.teller.restart()

        eventually(lambda: theatre.seen(*left) == 150)
        assert theatre.waiting() == 0

    def test_two_relays_share_the_work(self, theatre: Theatre) -> None:
        """No row is published twice while both are well."""
        second = theatre.add("teller")
        eventually(lambda: second.is_ready)

        with spy(theatre, EVENT) as queue:
            ids = theatre.tell(*["x"] * 200) + theatre.tell(*["y"] * 200)
            eventually(lambda: theatre.seen(*ids) == 400)
            eventually(lambda: theatre.waiting() == 0)
            copies = theatre.queued(queue)
        assert second.stop()[0] == 0

        assert copies == 400

    def test_the_metrics_tell_what_waits(self, theatre: Theatre) -> None:
        """How many and for how long."""
        lonely = commit(theatre, "NobodyAsksEvent")

        eventually(lambda: theatre.teller.metric("oms_outbox_waiting") == 1)
        eventually(lambda: theatre.teller.metric("oms_outbox_lag_seconds") > 0)
        theatre.execute("teller", "DELETE FROM outbox WHERE event_id = :id", id=lonely)
        eventually(lambda: theatre.teller.metric("oms_outbox_waiting") == 0)
