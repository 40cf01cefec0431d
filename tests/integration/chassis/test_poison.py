"""Whatever lies in a queue, the service lives, the next event is on time, and the log keeps the content to itself."""

import gzip
from typing import Any
from uuid import uuid4

import pytest

from tests.support.theatre import QUEUE, Theatre, an_event
from tests.support.until import eventually

SECRET = "a-secret-that-must-not-be-logged"
JSON = {"content_type": "application/json"}

POISON: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nothing": (b"", {}, "the body is not JSON"),
    "broken JSON": (f'{{"what": "{SECRET}"'.encode(), {}, "the body is not JSON"),
    "NaN": (f'{{"what": NaN, "x": "{SECRET}"}}'.encode(), {}, "the body is not JSON"),
    "an absurd number": (b'{"what": 1e99999999999999999999}', {}, "the body is not JSON"),
    "deep nesting": (b"[" * 200_000, {}, "the body is not JSON"),
    "invalid UTF-8": (b'{"what": "\xff"}', {}, "the body is not JSON"),
    "two megabytes": (an_event("x" * 2_000_000), {}, "the body is larger than 1048576 bytes"),
    "a list": ([an_event()], {}, "the body is not a JSON object"),
    "a missing field": ({"event_id": str(uuid4())}, {}, "what"),
    "a wrong type": (an_event() | {"what": {SECRET: SECRET}}, {}, "Expected `str`"),
    "a quoted value": (an_event(event_id=f"it's {SECRET}"), {}, "not a valid ThingHappenedEvent"),
    "an unknown version": (an_event(version=2), {}, "version must be 1"),
    "another type": (an_event(event_type="OtherEvent"), {}, "event_type must be ThingHappenedEvent"),
    "a time without zone": (an_event(occurred_at="2026-01-01T00:00:00"), {}, "occurred_at needs a time zone"),
    "another content type": (an_event(SECRET), {"content_type": "text/plain"}, "the content type is not"),
    "pickle": (
        b"cos\nsystem\n(S'true'\ntR.",
        {"content_type": "application/x-python-serialize"},
        "the content type is",
    ),
    "a compression bomb": (
        gzip.compress(b"0" * 50_000_000),
        {"application_headers": {"compression": "application/x-gzip"}},
        "the body is not JSON",
    ),
    "unreadable properties": (an_event(), {"message_id": b"\xff\xfe"}, "the headers cannot be read"),
    "headers that leave no room": (b"{", {"application_headers": {"x-large": "x" * 100_000}}, "the body is not JSON"),
    "headers that cannot be sent again": (b"{", {"application_headers": {"x-bytes": b"\xff"}}, "the body is not JSON"),
}

HOSTILE: dict[str, dict[str, Any]] = {
    "a call stack that is none": {"application_headers": {"nameko.call_id_stack": {"x": [1]}}},
    "a call stack of numbers": {"application_headers": {"nameko.call_id_stack": [1, None]}},
    "counters that are none": {"application_headers": {"x-oms-attempt": -1, "x-oms-failures": "many"}},
    "a trace that is none": {"application_headers": {"traceparent": "x" * 5000}},
    "a language of nowhere": {"application_headers": {"nameko.language": {"x": 1}}},
    "no content type": {"content_type": None, "content_encoding": None},
    "an encoding nobody knows": {"content_encoding": "klingon"},
    "a name that is none": {"message_id": "", "correlation_id": "x" * 255, "type": "x"},
}


class TestPoison:
    """A message that is not what its queue promises goes to the dead letters at once."""

    @pytest.mark.parametrize("name", POISON)
    def test_is_put_aside_and_delays_nobody(self, theatre: Theatre, name: str) -> None:
        """With a reason, after one attempt; the next event is handled all the same."""
        body, properties, reason = POISON[name]

        theatre.send(body, **properties)
        (after,) = theatre.tell("after")

        eventually(lambda: theatre.seen(after) == 1)
        letter = theatre.letter(seconds=5)
        assert (letter.headers["x-oms-kind"], letter.headers["x-oms-attempt"]) == ("malformed", 1)
        assert reason in letter.headers["x-oms-reason"]
        assert SECRET not in letter.headers["x-oms-reason"]
        assert theatre.queued(QUEUE) == 0

    def test_keeps_the_body_as_it_was(self, theatre: Theatre) -> None:
        """Byte for byte, so that somebody may look at it."""
        body = b'{"what": "\xff\xfe'

        theatre.send(body)

        assert theatre.letter().body == body

    def test_its_content_is_in_no_log(self, theatre: Theatre) -> None:
        """Neither as it was sent nor in an error's text."""
        theatre.send(f'{{"what": ["{SECRET}"]'.encode(), application_headers={"x-secret": SECRET})
        theatre.letter()

        assert SECRET not in theatre.listener.log.read_text()
        assert any(line["event"] == "dead_letter" for line in theatre.listener.lines())

    @pytest.mark.parametrize("name", HOSTILE)
    def test_headers_can_do_no_harm(self, theatre: Theatre, name: str) -> None:
        """Nothing in them is believed; the event itself is good."""
        event = an_event()

        theatre.send(event, **HOSTILE[name])

        eventually(lambda: theatre.seen(event["event_id"]) == 1, seconds=5)

    def test_a_wild_correlation_id_is_replaced(self, theatre: Theatre) -> None:
        """What an event causes must always be publishable."""
        event = an_event(correlation_id="\n" + "x" * 500)

        theatre.send(event)

        eventually(lambda: theatre.seen(event["event_id"]) == 1, seconds=5)
