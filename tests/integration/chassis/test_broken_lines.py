"""A connection may fall silent at any byte and for ever: then another one is opened."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest

from tests.support.lines import BLACK_HOLE, Fault, Line, Way
from tests.support.theatre import Theatre, an_event
from tests.support.until import wait_until

PATIENCE = 60


@contextmanager
def line_to(url: str) -> Iterator[Line]:
    """A line to the server of that URL."""
    port = urlsplit(url).port
    assert port is not None
    with Line(port) as line:
        yield line


@pytest.fixture(scope="module")
def broker_line(stage: Theatre) -> Iterator[Line]:
    """Both services at work, the listener by this line to the broker."""
    with line_to(stage.vhost.amqp_url) as line:
        stage.teller = stage.add("teller", HEARTBEAT="1")
        stage.listener = stage.add("listener", HEARTBEAT="1", AMQP_URI=line.url(stage.amqp_url("listener")))
        wait_until(lambda: stage.teller.is_ready and stage.listener.is_ready, PATIENCE)
        yield line


@pytest.fixture
def theatre(stage: Theatre, broker_line: Line) -> Theatre:
    """The stage with that line."""
    return stage


def is_served(theatre: Theatre) -> None:
    """An event gets to the listener."""
    event = an_event()
    theatre.send(event)
    wait_until(lambda: theatre.seen(event["event_id"]) == 1, PATIENCE)


class TestBroker:
    """The consuming connection falls silent and never says another word."""

    def test_while_it_consumes_is_replaced(self, theatre: Theatre, broker_line: Line) -> None:
        """The broker is noticed as away after two heartbeats; closing the old connection waits for no answer."""
        broker_line.hurt(BLACK_HOLE)
        wait_until(lambda: not theatre.listener.is_ready, PATIENCE)
        broker_line.forget()

        wait_until(lambda: theatre.listener.is_ready, PATIENCE)
        is_served(theatre)

    @pytest.mark.parametrize("count", [600, 800, 1000])
    def test_while_consuming_begins_is_replaced(self, theatre: Theatre, broker_line: Line, count: int) -> None:
        """Every question to the broker has a deadline, also those that come after connecting."""
        broker_line.hurt(Fault(down=Way(silent_after=count)))
        broker_line.reset()
        wait_until(lambda: not theatre.listener.is_ready, PATIENCE)
        wait_until(lambda: broker_line.silenced, PATIENCE)
        broker_line.forget()

        wait_until(lambda: theatre.listener.is_ready, PATIENCE)
        is_served(theatre)
