from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis import broker
from services.chassis.broker import ConfirmedPublisher, Message, TransientPublisher
from services.chassis.errors import Unavailable

A_MESSAGE = Message("an.exchange", "a.key", b"{}")


class Broker:
    """One connection with one channel to a broker that may be short of memory, as py-amqp shows it."""

    def __init__(self) -> None:
        self.is_short = False
        self.is_blocking = False
        self.sent = 0
        self.collected = False
        self.is_open = True
        self.events: dict[str, set[Callable[..., None]]] = {}
        self.news: deque[Callable[[], object]] = deque()
        self.connection = self
        self.on_blocked: Callable[[str], None]
        self.on_unblocked: Callable[[], None]

    def channel(self) -> "Broker":
        """Connection and channel are one here."""
        self.events = {name: set() for name in ("basic_ack", "basic_nack", "basic_return")}
        return self

    def confirm_select(self) -> None:
        """Whether or not they are asked for, confirms are sent."""

    def prepare_message(self, body: bytes, *_: object) -> bytes:
        """As it is."""
        return body

    def _basic_publish(self, *_: object, **__: object) -> None:
        self.sent += 1
        tag = self.sent
        if not self.is_short:
            self.news.append(lambda: [ack(tag, False) for ack in self.events["basic_ack"]])  # noqa: FBT003 - as py-amqp
        elif not self.is_blocking:
            self.is_blocking = True
            self.news.append(lambda: self.on_blocked("low on memory"))

    def recover(self) -> None:
        """The alarm is over."""
        self.is_short = self.is_blocking = False
        self.news.append(self.on_unblocked)

    def drain_events(self, timeout: float) -> None:
        """One piece of news."""
        if not self.news:
            raise TimeoutError
        self.news.popleft()()

    def collect(self) -> None:
        """The connection was dropped."""
        self.collected = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """What every connection is made to."""
    server = Broker()
    monkeypatch.setattr(broker, "connect", lambda *_, **__: server)
    return server


class TestBlockade:
    """A broker that lacks memory or disk."""

    def test_holds_events_back_on_the_same_connection(self, server: Broker) -> None:
        """One gets out before that is known; then none until the alarm ends, and nobody connects again."""
        publisher = ConfirmedPublisher({})
        assert publisher.publish([A_MESSAGE]) == {}
        server.is_short = True
        for _ in range(3):
            with pytest.raises(Unavailable, match="broker_unavailable"):
                publisher.publish([A_MESSAGE])
        assert (server.sent, server.collected) == (2, False)

        server.recover()

        assert publisher.publish([A_MESSAGE, A_MESSAGE]) == {}
        assert (server.sent, server.collected) == (4, False)

    def test_refuses_calls_at_once_and_is_told_at_the_probe(self, server: Broker) -> None:
        """Who asks who is to blame for the first call is told the broker."""
        publisher = TransientPublisher()
        publisher.container = SimpleNamespace(config={"HEARTBEAT": 10})
        server.is_short = True
        publisher.publish(A_MESSAGE, 1)
        assert not publisher.broker_answers()
        assert publisher.check_ready()
        with pytest.raises(Unavailable, match="broker_unavailable"):
            publisher.publish(A_MESSAGE, 1)
        assert (server.sent, server.collected) == (1, False)

        server.recover()

        publisher.publish(A_MESSAGE, 1)
        assert publisher.check_ready() is None
        assert (server.sent, server.collected) == (2, False)


class Doubt:
    """A broker that is asked whether it is there."""

    def __init__(self) -> None:
        self.is_well = True
        self.asked = 0
        self.closed = 0

    def close(self) -> None:
        """One channel less."""
        self.closed += 1

    def exchange_declare(self, *_: Any, **__: Any) -> None:
        """Nothing more, or the connection breaks."""
        self.asked += 1
        if not self.is_well:
            raise ConnectionResetError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A publisher, its broker, and the clock both go by."""
    here = SimpleNamespace(broker=Doubt(), publisher=TransientPublisher(), now=1000.0)
    monkeypatch.setattr(here.publisher, "_open", lambda: here.broker)
    monkeypatch.setattr(broker, "monotonic", lambda: here.now)
    return here


class TestBrokerAnswers:
    """Who is to blame when nobody answered."""

    @pytest.mark.parametrize("is_well", [True, False])
    def test_asks_once_for_all_who_ask_together(self, asked: SimpleNamespace, is_well: bool) -> None:  # noqa: FBT001
        """A request that waited in vain for three services waits for one more answer, not for three."""
        asked.broker.is_well = is_well

        assert [asked.publisher.broker_answers() for _ in range(3)] == [is_well] * 3
        assert asked.broker.asked == 1

    def test_gives_up_the_channel_on_which_a_call_was_lost(self, asked: SimpleNamespace) -> None:
        """The broker may drop everything on it, and say nothing."""
        asked.publisher._channel = asked.broker

        assert asked.publisher.broker_answers()

        assert (asked.broker.closed, asked.publisher._channel) == (1, None)

    def test_asks_again_after_a_moment(self, asked: SimpleNamespace) -> None:
        """It may have gone away since, or come back."""
        for is_well in (True, False, True):
            asked.broker.is_well = is_well
            assert asked.publisher.broker_answers() == is_well
            asked.now += 1
