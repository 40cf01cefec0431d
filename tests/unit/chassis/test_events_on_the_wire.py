"""What a message must be to be an event, and what becomes of a failure."""

import json
from typing import Any
from uuid import UUID, uuid4

import eventlet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.chassis.consumer import UNREADABLE, RawMessage
from services.chassis.errors import Alarm, Conflict, MalformedEvent, NotFound, TimedOut, Unavailable
from services.chassis.messaging import LARGEST_BODY, classify, read_event
from tests.support.stage import ThingHappenedEvent
from tests.support.theatre import an_event


class Delivered:
    """What py-amqp hands over."""

    def __init__(self, body: bytes, **properties: Any) -> None:
        self.body = body
        self.properties = properties
        self.delivery_tag = 1
        self.delivery_info: dict[str, Any] = {}


def a_message(body: object, **properties: Any) -> RawMessage:
    """A message with this body; ``bytes`` go as they are."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return RawMessage(Delivered(text, **{"content_type": "application/json", **properties}), channel=None)


def read(body: object, **properties: Any) -> ThingHappenedEvent:
    """The event in such a message."""
    event = read_event(a_message(body, **properties), ThingHappenedEvent)
    assert isinstance(event, ThingHappenedEvent)
    return event


def complaint(body: object, **properties: Any) -> str:
    """Why such a message carries none."""
    with pytest.raises(MalformedEvent) as raised:
        read(body, **properties)
    return str(raised.value)


class TestReadEvent:
    """The event a message carries, or MalformedEvent without a word of the content."""

    def test_reads_what_was_published(self) -> None:
        """Field by field."""
        payload = an_event("hello", unknown="ignored")

        event = read(payload)

        assert (str(event.event_id), event.what, event.event_type) == (
            payload["event_id"],
            "hello",
            "ThingHappenedEvent",
        )

    def test_needs_no_content_type(self) -> None:
        """What is JSON is read as JSON."""
        assert read(an_event(), content_type=None)

    @given(st.binary(max_size=200))
    def test_any_bytes_are_an_event_or_malformed(self, body: bytes) -> None:
        """Nothing else can come of them."""
        assert complaint(body)

    @given(st.dictionaries(st.sampled_from(list(an_event())), st.none() | st.booleans() | st.integers() | st.text()))
    def test_any_fields_are_an_event_or_malformed(self, fields: dict[str, Any]) -> None:
        """Likewise."""
        try:
            event = read(an_event(**fields))
        except MalformedEvent:
            return
        assert event.version == 1

    @pytest.mark.parametrize("secret", ["hush", "it's hush", "hush'", "'hush", "a'b'hush", "`hush`"])
    @pytest.mark.parametrize("field", ["event_id", "occurred_at", "event_type", "causation_id"])
    def test_quotes_nothing(self, field: str, secret: str) -> None:
        """However it is quoted inside."""
        assert "hush" not in complaint(an_event(**{field: secret}))

    def test_a_large_body_is_not_even_read(self) -> None:
        """One megabyte is enough for any event."""
        assert "larger" in complaint(b"x" * (LARGEST_BODY + 1))

    def test_unreadable_properties_make_it_unreadable(self) -> None:
        """Whatever the body is."""
        assert "headers" in complaint(an_event(), application_headers={UNREADABLE: "ValueError"})


class TestEventsMadeByHand:
    """What may be missing is filled in."""

    def test_an_id_follows_from_the_content(self) -> None:
        """The same content, the same id; whatever the order of its fields."""
        first = read({"what": "x", "correlation_id": "c"})
        again = read({"correlation_id": "c", "what": "x"})

        assert first.event_id == again.event_id
        assert first.event_id.version == 5

    @pytest.mark.parametrize("other", [{"what": "y"}, {"what": "x", "correlation_id": "c"}, {"what": "x", "more": 1}])
    def test_another_content_is_another_event(self, other: dict[str, Any]) -> None:
        """Also where the difference is in a field nobody knows."""
        assert read(other).event_id != read({"what": "x"}).event_id

    def test_a_given_id_is_kept(self) -> None:
        """Also without anything else."""
        event_id = uuid4()

        assert read({"event_id": str(event_id), "what": "x"}).event_id == event_id

    def test_null_is_missing(self) -> None:
        """For the id and the time."""
        event = read({"event_id": None, "occurred_at": None, "what": "x"})

        assert isinstance(event.event_id, UUID)
        assert event.occurred_at.tzinfo is not None

    def test_what_only_a_person_can_know_is_not_filled_in(self) -> None:
        """The content itself."""
        assert "what" in complaint({})


class TestClassify:
    """How a failure is met."""

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (Unavailable("a", "b"), "passing"),
            (TimedOut("a", "b"), "passing"),
            (RedisConnectionError(), "passing"),
            (ResponseError(), "passing"),
            (ConnectionRefusedError(), "passing"),
            (OperationalError("", {}, Exception()), "passing"),
            (InterfaceError("", {}, Exception()), "passing"),
            (PoolTimeoutError(), "passing"),
            (MalformedEvent("x"), "malformed"),
            (Alarm("x"), "alarm"),
            (NotFound("a", "b"), "lasting"),
            (Conflict("a", "b"), "lasting"),
            (IntegrityError("", {}, Exception()), "lasting"),
            (ProgrammingError("", {}, Exception()), "lasting"),
            (KeyError("x"), "lasting"),
            (eventlet.Timeout(None), "lasting"),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_knows_each(self, error: BaseException, kind: str) -> None:
        """Passing ones are retried for ever, lasting ones a few times, the others never."""
        assert classify(error) == kind
