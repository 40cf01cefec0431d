"""A connection may fall silent at any byte and for ever: then another one is opened."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.lines import BLACK_HOLE, Fault, Line, Way
from tests.support.theatre import Theatre, an_event
from tests.support.until import eventually

PATIENCE = 60
POOL = 8


@contextmanager
def line_to(url: str) -> Iterator[Line]:
    """A line to the server of that URL."""
    port = urlsplit(url).port
    assert port is not None
    with Line(port) as line:
        yield line


@pytest.fixture(scope="module")
def lines(stage: Theatre) -> Iterator[tuple[Line, Line]]:
    """Both services at work: the listener by a line to the broker, the teller by one to its database."""
    with line_to(stage.vhost.amqp_url) as broker, line_to(stage.database_urls["teller"]) as database:
        by_line = database.url(stage.database_urls["teller"])
        stage.teller = stage.add("teller", HEARTBEAT="1", DATABASE_URL=by_line, DB_POOL_SIZE=str(POOL))
        stage.listener = stage.add("listener", HEARTBEAT="1", AMQP_URI=broker.url(stage.amqp_url("listener")))
        eventually(lambda: stage.teller.is_ready and stage.listener.is_ready, seconds=PATIENCE)
        yield broker, database


@pytest.fixture
def broker_line(lines: tuple[Line, Line]) -> Line:
    """The listener's to the broker."""
    return lines[0]


@pytest.fixture
def database_line(lines: tuple[Line, Line]) -> Line:
    """The teller's to its database."""
    return lines[1]


@pytest.fixture
def theatre(stage: Theatre, lines: tuple[Line, Line]) -> Theatre:
    """The stage with these lines."""
    return stage


def is_served(theatre: Theatre) -> None:
    """An event gets to the listener."""
    event = an_event()
    theatre.send(event)
    eventually(lambda: theatre.seen(event["event_id"]) == 1, seconds=PATIENCE)


class TestBroker:
    """The consuming connection falls silent and never says another word."""

    def test_while_it_consumes_is_replaced(self, theatre: Theatre, broker_line: Line) -> None:
        """The broker is noticed as away after two heartbeats; closing the old connection waits for no answer."""
        broker_line.hurt(BLACK_HOLE)
        eventually(lambda: not theatre.listener.is_ready, seconds=PATIENCE)
        broker_line.forget()

        eventually(lambda: theatre.listener.is_ready, seconds=PATIENCE)
        is_served(theatre)

    @pytest.mark.parametrize("count", [600, 800, 1000])
    def test_while_consuming_begins_is_replaced(self, theatre: Theatre, broker_line: Line, count: int) -> None:
        """Every question to the broker has a deadline, also those that come after connecting."""
        broker_line.hurt(Fault(down=Way(silent_after=count)))
        broker_line.reset()
        eventually(lambda: not theatre.listener.is_ready, seconds=PATIENCE)
        eventually(lambda: broker_line.silenced, seconds=PATIENCE)
        broker_line.forget()

        eventually(lambda: theatre.listener.is_ready, seconds=PATIENCE)
        is_served(theatre)


class TestDatabase:
    """All idle connections to the database are dead, and nobody says so."""

    def test_costs_one_request_its_patience_at_most(self, theatre: Theatre, database_line: Line) -> None:
        """Whoever finds one of them dead asks none of the others."""
        with ThreadPoolExecutor(POOL) as pool:
            answers = list(pool.map(lambda _: theatre.ask_over_http("query 1")[0], range(POOL)))
        assert set(answers) == {200}
        eventually(lambda: database_line.open_connections >= POOL)
        database_line.forget()

        statuses = [theatre.ask_over_http("query 0")[0] for _ in range(POOL)]

        assert statuses.count(200) >= POOL - 1
