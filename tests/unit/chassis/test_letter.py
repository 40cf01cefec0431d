"""One dead letter: its id, what is shown of it, and how it is sent again."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from amqp.basic_message import Message

from services.chassis.letter import HISTORY, LONGEST_HISTORY, DeadLetter, plain, redacted

QUEUE = "evt-orders-OrderCancelledEvent--payments.on_order_cancelled"


def a_letter(body: bytes | str = b'{"order_id": "o", "event_id": "e"}', headers: Any = None) -> DeadLetter:
    """What lies in the dead letters of payments."""
    marks = {"x-oms-queue": QUEUE, "x-oms-handler": "payments.on_order_cancelled", "x-oms-attempt": 5, "kept": "yes"}
    message = Message(body, application_headers=marks | (headers or {}), message_id="m")
    return DeadLetter.read("payments", message)


class TestDeadLetter:
    """What can be said of it."""

    def test_has_a_stable_id(self) -> None:
        """The same message that failed at the same time; another time is another letter."""
        assert a_letter().id == a_letter().id
        assert a_letter().id != a_letter(headers={"x-oms-failed-at": "later"}).id
        assert len(a_letter().id) == 16

    def test_tells_event_and_order(self) -> None:
        """From the queue's name and the body."""
        letter = a_letter()

        assert (letter.event, letter.order_id, letter.event_id) == ("OrderCancelledEvent", "o", "m")

    @pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"order_id": 5}', "text"])
    def test_reads_any_body(self, body: bytes | str) -> None:
        """A malformed one has no order."""
        letter = a_letter(body)

        assert letter.order_id is None
        json.dumps(letter.view(), default=str)

    def test_of_the_broker_says_so(self) -> None:
        """A process that died over it a hundred times, whoever has looked at it since."""
        death = {"queue": QUEUE, "reason": "delivery_limit", "time": datetime(2026, 1, 1, tzinfo=UTC)}
        message = Message(b"{}", application_headers={"x-death": [death], "x-delivery-count": 3})

        letter = DeadLetter.read("payments", message)

        assert (letter.handler, letter.attempts) == ("payments.on_order_cancelled", 101)
        assert letter.failed_at == "2026-01-01T00:00:00+00:00"
        assert "ended again and again" in letter.reason

    def test_is_sent_again_without_its_marks(self) -> None:
        """What was not ours stays, and the history grows, but not for ever."""
        message = a_letter(headers={"x-delivery-count": 3}).again()
        headers = message.properties["application_headers"]
        assert set(headers) == {"kept", HISTORY}

        long = [{"reason": str(number)} for number in range(50)]
        again = a_letter(headers={HISTORY: json.dumps(long)}).again().properties["application_headers"]
        assert len(json.loads(again[HISTORY])) == LONGEST_HISTORY

    @pytest.mark.parametrize("history", ["no json", 5, "{}", "[1]"])
    def test_forgets_a_history_that_is_none(self, history: object) -> None:
        """Anybody may write a header."""
        assert a_letter(headers={HISTORY: history}).history == []


class TestSecrets:
    """What nobody is shown."""

    @pytest.mark.parametrize("name", ["password", "newPassword", "refreshToken", "nameko.auth_token", "Authorization"])
    def test_are_hidden_wherever_they_are(self, name: str) -> None:
        """In objects within lists within objects."""
        assert redacted({"a": [{name: "x", "b": 1}]}) == {"a": [{name: "(hidden)", "b": 1}]}

    def test_are_not_everything(self) -> None:
        """An order stays readable, and headers become JSON."""
        assert redacted({"payment_method": "pm_ok"}) == {"payment_method": "pm_ok"}
        assert plain({"at": datetime(2026, 1, 1, tzinfo=UTC), "n": [1, None]}) == {
            "at": "2026-01-01 00:00:00+00:00",
            "n": [1, None],
        }
