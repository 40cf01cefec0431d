"""Which retry queue a failed message goes to, and what it takes along."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.broker import Message
from services.chassis.errors import Unavailable
from services.chassis.redelivery import ATTEMPT, FAILURES, Failure, Redelivery


class Post:
    """A publisher that keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.answers: list[dict[int, str] | Unavailable] = []

    def publish(self, messages: Sequence[Message]) -> dict[int, str]:
        """Take all of them, once the ``answers`` to earlier ones are given."""
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Unavailable):
            raise answer
        if not answer:
            self.sent += messages
        return answer


class Counter:
    """Where acknowledgements are counted."""

    def __init__(self) -> None:
        self.acknowledged: list[Any] = []

    def ack_message(self, message: Any) -> None:
        """One more."""
        self.acknowledged.append(message)


@pytest.fixture
def redelivery() -> Any:
    """With three delays, in front of a post that takes everything."""
    made: Any = Redelivery()
    made.container = SimpleNamespace(service_name="listener")
    made.delays = (100, 300, 600)
    made._publisher = Post()
    made.queue_consumer = Counter()
    return made


def a_message(**headers: Any) -> Any:
    """A delivery with these headers."""
    return SimpleNamespace(
        body=b"{}",
        headers=headers,
        properties={"message_id": "m", "priority": 5, "expiration": "1"},
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={"exchange": "teller.events", "routing_key": "ThingHappenedEvent"},
        channel=SimpleNamespace(connection=True),
    )


def a_failure(attempt: int) -> Failure:
    """The failure of this attempt."""
    return Failure("evt-x", "listener.on_x", attempt, 0, "passing", "Unavailable: away")


class TestLater:
    """A message that comes again."""

    @pytest.mark.parametrize(("attempt", "delay"), [(1, 100), (2, 300), (3, 600), (4, 600), (1000, 600), (0, 600)])
    def test_waits_longer_each_time(self, redelivery: Any, attempt: int, delay: int) -> None:
        """And at the longest distance from then on."""
        redelivery.later(a_message(), a_failure(attempt))

        (sent,) = redelivery._publisher.sent
        assert (sent.exchange, sent.routing_key) == (f"listener.retry.{delay}", "evt-x")
        assert sent.headers == {ATTEMPT: attempt + 1, FAILURES: 0}

    def test_takes_its_name_and_headers_along_and_is_acknowledged(self, redelivery: Any) -> None:
        """But not what would make it expire on the way."""
        message = a_message(mine="kept")

        redelivery.later(message, a_failure(1))

        (sent,) = redelivery._publisher.sent
        assert sent.headers["mine"] == "kept"
        assert sent.properties == {"message_id": "m"}
        assert redelivery.queue_consumer.acknowledged == [message]

    @pytest.mark.parametrize("answer", [{0: "the broker refused it"}, Unavailable("away", "Away.")])
    def test_is_acknowledged_once_the_broker_has_the_copy(
        self, redelivery: Any, answer: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Tried until then: acknowledged before, it would be nowhere."""
        monkeypatch.setattr("services.chassis.redelivery.PAUSES", (0.0, 0.0))
        redelivery._publisher.answers = [answer]
        message = a_message()

        redelivery.later(message, a_failure(1))

        assert len(redelivery._publisher.sent) == 1
        assert redelivery.queue_consumer.acknowledged == [message]

    def test_is_left_alone_when_its_connection_is_gone(self, redelivery: Any) -> None:
        """The broker still has it, and delivers it again."""
        message = a_message()
        message.channel.connection = None

        redelivery.later(message, a_failure(1))

        assert redelivery._publisher.sent == []


class TestBury:
    """A message that is given up."""

    def test_says_where_it_came_from_and_why(self, redelivery: Any) -> None:
        """So that a person can judge and replay it."""
        redelivery.bury(a_message(), a_failure(7))

        (sent,) = redelivery._publisher.sent
        assert sent.exchange == "listener.dead-letters"
        assert sent.headers["x-oms-reason"] == "Unavailable: away"
        assert (sent.headers["x-oms-exchange"], sent.headers["x-oms-routing-key"]) == (
            "teller.events",
            "ThingHappenedEvent",
        )
        assert (sent.headers["x-oms-queue"], sent.headers[ATTEMPT]) == ("evt-x", 7)
