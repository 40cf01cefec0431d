"""What no publisher of ours would send, made from what it would: the table of poison, and which handlers may get it."""

import gzip
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from amqp.basic_message import Message

import events
from services.chassis import wire
from services.chassis.messaging import LARGEST_BODY
from services.chassis.topology import Subscription
from tests.support.calls import Calls

KINDS: Final = {kind.__name__: kind for kind in events.ALL}
NOT_JSON: Final = "MalformedEvent: the body is not JSON"
NOT_OURS: Final = "MalformedEvent: the content type is not application/json"
BOMB_BYTES: Final = 256 * 1024 * 1024

Event = Mapping[str, Any]
Make = Callable[[Event], bytes]


@dataclass(frozen=True)
class Poison:
    """A message made from a good event. ``reason`` is why it is given up; without one it is as good as the event."""

    name: str
    make: Make
    reason: str = ""
    properties: Mapping[str, Any] = field(default_factory=dict)
    suits: Callable[[type[events.Event]], bool] = lambda _: True
    is_large: bool = False
    """Sent to one handler of each service only."""


class Mark:
    """Whoever unpickles it leaves a file where it says."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@cache
def bomb() -> bytes:
    """A little that would be very much if somebody unpacked it."""
    packer = zlib.compressobj(9, wbits=31)
    block = bytes(1024 * 1024)
    packed = b"".join(packer.compress(block) for _ in range(BOMB_BYTES // len(block)))
    return packed + packer.flush()


def changed(**values: Any) -> Make:
    """The event with these values."""
    return lambda event: wire.encode({**event, **values})


def without(*names: str) -> Make:
    """The event without these fields."""
    return lambda event: wire.encode({name: value for name, value in event.items() if name not in names})


def raw(body: bytes) -> Make:
    """The same body, whatever the event."""
    return lambda _: body


def ending(rest: bytes) -> Make:
    """The event with a last field that is not JSON, or hardly."""
    return lambda event: wire.encode(event)[:-1] + b', "x": ' + rest + b"}"


def first_line(**values: Any) -> Make:
    """The event with something else in its first line."""
    return lambda event: wire.encode({**event, "items": [{**event["items"][0], **values}, *event["items"][1:]]})


def has_items(kind: type[events.Event]) -> bool:
    """Whether it tells of an order's lines, and what they come to."""
    return kind in (events.OrderCreatedEvent, events.InventoryReservedEvent)


def table(mark: Path) -> Iterator[Poison]:
    """Everything; ``mark`` appears when somebody unpickles what must never be."""
    yield from malformed()
    yield from packed(mark)
    yield from harmless()
    yield from forged()
    yield from incomplete()


def malformed() -> Iterator[Poison]:
    """What cannot be read."""
    texts = {
        "nothing": raw(b""),
        "bad JSON": lambda event: wire.encode(event)[:-1],
        "two events": lambda event: wire.encode(event) * 2,
        "NaN": ending(b"NaN"),
        "Infinity": ending(b"-Infinity"),
        "an absurd number": ending(b"1e99999999"),
        "deep nesting": ending(b"[" * 50_000 + b"]" * 50_000),
        "a lone surrogate": ending(rb'"\ud800"'),
        "the other surrogate": ending(rb'"\udc00"'),
        "half a surrogate pair": ending(rb'"\ud800\u0041"'),
        "a surrogate in UTF-8": ending(b'"\xed\xa0\x80"'),
        "invalid UTF-8": ending(b'"\xff"'),
        "a NUL byte": ending(b'"\x00"'),
        "another alphabet": lambda event: wire.encode(event).decode().encode("utf-16"),
    }
    for name, make in texts.items():
        yield Poison(name, make, NOT_JSON)
    yield Poison("a list", raw(b"[]"), "MalformedEvent: the body is not a JSON object")
    too_large = f"MalformedEvent: the body is larger than {LARGEST_BODY} bytes"
    yield Poison("more than 1 MB", changed(x="x" * LARGEST_BODY), too_large, is_large=True)
    yield Poison("plain text", changed(), NOT_OURS, {"content_type": "text/plain"})
    yaml = {"content_type": "application/x-yaml"}
    yield Poison("YAML", raw(b"!!python/object/apply:os.system [true]"), NOT_OURS, yaml)


def packed(mark: Path) -> Iterator[Poison]:
    """What wants to be unpacked: pickles and archives."""
    for name in ("application/x-python-serialize", "application/x-pickle"):
        yield Poison(f"a pickle as {name}", raw(pickle.dumps(Mark(mark))), NOT_OURS, {"content_type": name})
    yield Poison("a pickle as JSON", raw(pickle.dumps(Mark(mark))), NOT_JSON)
    yield Poison("a pickle in base64", raw(b"gAR9lC4="), NOT_JSON, {"content_encoding": "base64"})
    headers = {"application_headers": {"compression": "application/x-gzip"}}
    yield Poison("a packed text", lambda event: gzip.compress(wire.encode(event)), NOT_JSON, headers)
    yield Poison("a bomb by header", lambda _: bomb(), NOT_JSON, headers, is_large=True)
    yield Poison("a bomb by encoding", lambda _: bomb(), NOT_JSON, {"content_encoding": "gzip"}, is_large=True)


def harmless() -> Iterator[Poison]:
    """What looks bad, and is good."""
    yield Poison("extra fields", changed(x={"deep": [None, {"y": "\0"}]}, order={"status": "Shipped"}))
    yield Poison("nearly 1 MB", changed(x="x" * (LARGEST_BODY - 5_000)), is_large=True)
    yield Poison("dispatched by hand", without("event_type", "version", "correlation_id", "causation_id"))
    yield Poison("a wild correlation", changed(correlation_id="\r\n" + "x" * 5_000))
    yield Poison("long ago", changed(occurred_at="0001-01-01T00:00:00+14:00"))
    yield Poison("no content type", changed(), properties={"content_type": None, "content_encoding": None})
    nameko = {"nameko.call_id_stack": {"x": [1]}, "nameko.language": 7, "nameko.auth_token": ["x"], "traceparent": -1}
    yield Poison("bad Nameko headers", changed(), properties={"application_headers": nameko})
    counters = {"x-oms-attempt": 2**62, "x-oms-failures": "many", "x-oms-history": "{", "x-death": "yes"}
    yield Poison("counters that are none", changed(), properties={"application_headers": counters})


def forged() -> Iterator[Poison]:
    """What breaks the event's own rules."""
    yield Poison("an unknown version", changed(version=2), "version must be 1")
    yield Poison("another type", changed(event_type="OtherEvent"), "event_type must be")
    yield Poison("a time without zone", changed(occurred_at="2026-01-01T00:00:00"), "occurred_at needs a time zone")
    yield Poison("an id that is none", changed(event_id="'; DROP TABLE inbox"), "Invalid UUID")
    yield Poison("a forged total", changed(total_cents=1), "total_cents must be the sum", suits=has_items)
    yield Poison("less than nothing", first_line(quantity=-1), "quantity must be from 1", suits=has_items)
    yield Poison("a negative price", first_line(unit_price_cents=-1), "unit_price_cents must not be", suits=has_items)
    yield Poison("a fraction", first_line(quantity=1.5), "Expected `int`", suits=has_items)
    yield Poison("no lines", changed(items=[], total_cents=0), "items must have from 1", suits=has_items)


def incomplete() -> Iterator[Poison]:
    """Every field that an event cannot do without, missing and of a wrong type."""
    needed = {
        each.name for kind in events.ALL for each in fields(kind) if each.default is each.default_factory is MISSING
    } - {"occurred_at"}
    for name in sorted(needed):

        def has(kind: type[events.Event], name: str = name) -> bool:
            return any(each.name == name for each in fields(kind))

        yield Poison(f"no {name}", without(name), f"missing required field `{name}`", suits=has)
        yield Poison(f"a wrong {name}", changed(**{name: {"x": 1}}), f"at `$.{name}`", suits=has)


BAD_HEADERS: Final[Sequence[Mapping[str, Any]]] = (
    {"nameko.call_id_stack": {"x": [1]}, "nameko.language": 7},
    {"nameko.auth_token": ["x"], "nameko.correlation_id": -1, "traceparent": "\0"},
    {"compression": "application/x-gzip"},
)
"""Of a call that is good otherwise."""


def bad_calls(mark: Path) -> Iterator[Poison]:
    """What is no call, nor an answer to one."""
    plain = {"content_type": "application/json"}
    texts = [b"", b"{", b"[]", b"7", b'{"args": 1, "kwargs": {}}', b'{"args": [], "kwargs": []}', b'{"args": []}']
    texts += [
        b'{"args": [NaN], "kwargs": {}}',
        b'{"args": ["\\ud800"], "kwargs": {}}',
        b'{"args": ["\x00"], "kwargs": {}}',
    ]
    texts += [
        b"[" * 50_000,
        b'{"args": [1, 2, 3, 4, 5, 6, 7, 8, 9], "kwargs": {}}',
        wire.encode({"x": "x" * LARGEST_BODY}),
    ]
    for text in texts:
        yield Poison(f"call {text[:40]!r}", raw(text), properties=plain)
    yield from (Poison(each.name, each.make, properties=plain | dict(each.properties)) for each in packed(mark))


def bad_answers(mark: Path) -> Iterator[Poison]:
    """What nobody can read as the answer to a call."""
    yield from bad_calls(mark)
    yield from (each for each in malformed() if each.reason == NOT_JSON)
    known = "services.chassis.errors.NotFound"
    errors: list[Any] = ["x", 7, [1], {"exc_path": []}, {"exc_path": known, "exc_args": 7}, {"exc_path": known}]
    for error in errors:
        yield Poison(f"the error {error}", raw(wire.encode({"result": None, "error": error})))


def call(calls: Calls, method: str, body: bytes, **properties: Any) -> str:
    """Send a call as it is, and get what to wait for."""
    number = str(uuid4())
    message = Message(body, reply_to=calls.reply_to, correlation_id=number, **properties)
    calls.channel.basic_publish(message, "nameko-rpc", method)
    return number


@dataclass(frozen=True)
class Dose:
    """One poison for one handler; its message's id is also the id of the event, if it has one."""

    poison: Poison
    to: Subscription
    id: str
    body: bytes
    properties: Mapping[str, Any]


def doses(base: Mapping[Subscription, Event], mark: Path) -> Iterator[Dose]:
    """Every poison for every handler that it suits, made from an event that the handler has answered before."""
    first_of = {each.service: each for each in reversed(list(base))}
    for poison in table(mark):
        for to, event in base.items():
            if poison.suits(KINDS[to.event]) and (not poison.is_large or first_of[to.service] == to):
                event_id = str(uuid4())
                usual = {"content_type": "application/json", "content_encoding": "utf-8", "message_id": event_id}
                properties = {**usual, **poison.properties, "delivery_mode": 2}
                kept = {name: value for name, value in properties.items() if value is not None}
                yield Dose(poison, to, event_id, poison.make({**event, "event_id": event_id}), kept)
