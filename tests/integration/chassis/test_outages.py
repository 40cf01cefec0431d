"""Broker and database may die, freeze and come back: callers hear of it in time, and nothing committed is lost."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cli.servers.private import Servers
from tests.support.theatre import Theatre, an_event
from tests.support.until import eventually

POOL = 3


@pytest.fixture(scope="module")
def theatre(stage: Theatre) -> Theatre:
    """Both services, with few connections to their databases."""
    stage.open(DB_POOL_SIZE=str(POOL))
    return stage


@contextmanager
def frozen(servers: Servers, name: str) -> Iterator[None]:
    """Within the block the server hangs."""
    servers.freeze(name)
    try:
        yield
    finally:
        servers.thaw(name)


@contextmanager
def down(servers: Servers, name: str) -> Iterator[None]:
    """Within the block the server is dead; afterwards it runs again."""
    servers.kill(name)
    try:
        yield
    finally:
        servers.restart(name)


def commit(theatre: Theatre) -> str:
    """An event in the teller's outbox, put there past the process; its id."""
    event = an_event()
    theatre.execute(
        "teller",
        "INSERT INTO outbox (event_id, event_type, correlation_id, payload)"
        " VALUES (:id, 'ThingHappenedEvent', 'test', :payload)",
        id=event["event_id"],
        payload=json.dumps(event),
    )
    return str(event["event_id"])


def at_once(count: int, act: Callable[[], tuple[int, object, float]]) -> list[tuple[int, object, float]]:
    """The outcomes of doing the same thing several times at once."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: act(), range(count)))


class TestSlowDatabase:
    """A query that takes its time holds up nobody but its own caller."""

    def test_six_queries_of_a_second_take_two_on_three_connections(self, theatre: Theatre) -> None:
        """The driver is green: the process goes on while PostgreSQL works."""
        began = time.monotonic()

        outcomes = at_once(6, lambda: theatre.ask_over_http("query 1"))

        assert {status for status, _, _ in outcomes} == {200}
        assert 1.9 < time.monotonic() - began < 5.5  # one after the other they would take six

    def test_waiting_for_a_connection_has_an_end(self, theatre: Theatre) -> None:
        """Who gets none in time hears that the database is busy; afterwards all connections are free."""
        at_once(POOL, lambda: theatre.ask_over_http("query 0.3"))  # opening them takes a busy machine its time
        outcomes = at_once(POOL + 2, lambda: theatre.ask_over_http("query 3.6"))

        assert sorted(status for status, _, _ in outcomes) == [200] * POOL + [503] * 2
        assert max(seconds for _, _, seconds in outcomes) < 5
        assert {status for status, _, _ in at_once(POOL, lambda: theatre.ask_over_http("query 0.1"))} == {200}

    def test_a_query_has_a_deadline(self, theatre: Theatre) -> None:
        """In the server, so that it does not go on for nobody."""
        status, document, seconds = theatre.ask_over_http("query 30")

        assert (status, document["code"], seconds < 8) == (503, "database_unavailable", True)
        query = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
        assert not theatre.rows("teller", query)


class TestDatabaseAway:
    """A database that is frozen or dead is an answer, not a hang."""

    def test_frozen_it_is_unavailable_within_five_seconds(self, theatre: Theatre, private_servers: Servers) -> None:
        """For everybody who asks, and all is well when it goes on."""
        with frozen(private_servers, "postgres"):
            outcomes = at_once(POOL + 1, lambda: theatre.ask_over_http("query 0"))
            assert theatre.teller.readiness()[0] == 503

        assert {status for status, _, _ in outcomes} == {503}
        assert max(seconds for _, _, seconds in outcomes) < 5
        eventually(lambda: theatre.teller.is_ready)
        assert {status for status, _, _ in at_once(POOL, lambda: theatre.ask_over_http("query 0.1"))} == {200}

    def test_dead_it_is_unavailable_at_once(self, theatre: Theatre, private_servers: Servers) -> None:
        """Events that come meanwhile wait in the retry queues, none is given up."""
        event = an_event()
        with down(private_servers, "postgres"):
            status, document, seconds = theatre.ask_over_http("query 0")
            theatre.send(event)
            eventually(lambda: theatre.listener.metric("oms_retries_total", kind="passing") > 2)

        assert (status, document["code"], seconds < 4) == (503, "database_unavailable", True)
        eventually(lambda: theatre.seen(event["event_id"]) == 1)
        eventually(lambda: theatre.ask_over_http("query 0")[0] == 200)
        assert theatre.take_letter() is None


class TestBrokerAway:
    """A broker that is frozen or dead likewise; what was committed waits for it."""

    def test_frozen_it_is_unavailable_within_six_seconds(self, theatre: Theatre, private_servers: Servers) -> None:
        """A row has its time of publication only when the broker has taken it."""
        with frozen(private_servers, "rabbitmq"):
            left = commit(theatre)
            status, document, seconds = theatre.ask_over_http("hi")
            assert theatre.waiting() == 1

        assert (status, document["code"], seconds < 8) == (503, "broker_unavailable", True)
        eventually(lambda: theatre.seen(left) == 1)
        eventually(lambda: theatre.waiting() == 0)
        eventually(lambda: theatre.ask_over_http("hi")[0] == 200)

    def test_what_was_asked_while_it_was_frozen_is_not_done(self, theatre: Theatre, private_servers: Servers) -> None:
        """It may take the call in when it goes on, and who asked was told to ask again."""

        def done() -> float:
            return theatre.teller.metric("oms_rpc_server_seconds_count", method="teller.answer", outcome="ok")

        assert theatre.ask_over_http("hi")[0] == 200
        before = done()
        with frozen(private_servers, "rabbitmq"):
            assert theatre.ask_over_http("hi")[0] == 503

        eventually(lambda: theatre.ask_over_http("hi")[0] == 200)
        time.sleep(1)  # what it took in is handed on by now
        assert done() == before + 1

    def test_dead_it_is_unavailable_at_once_and_loses_nothing(self, theatre: Theatre, private_servers: Servers) -> None:
        """Events in every state - in the outbox, in a queue, in a handler - are each seen once afterwards."""
        under_way = [str(each) for each in theatre.tell(*["sleep 0.05"] * 150)]
        eventually(lambda: theatre.seen(*under_way) > 5)

        with down(private_servers, "rabbitmq"):
            assert theatre.seen(*under_way) < 150
            left = [commit(theatre) for _ in range(20)]
            status, document, seconds = theatre.ask_over_http("hi")
            assert theatre.teller.readiness()[0] == 503
            eventually(lambda: theatre.teller.metric("oms_outbox_waiting") >= 20)
            eventually(lambda: theatre.teller.metric("oms_outbox_lag_seconds") > 1)

        assert (status, document["code"], seconds < 4) == (503, "broker_unavailable", True)
        eventually(lambda: theatre.seen(*under_way, *left) >= 170, seconds=30)
        eventually(lambda: theatre.teller.is_ready and theatre.listener.is_ready)
        assert theatre.seen(*under_way, *left) == 170
        assert theatre.ask_over_http("hi")[0] == 200
        assert theatre.take_letter() is None
