"""One dead letter: what was given up, by whom and why, what may be shown of it, and how it is sent again.

Its counters begin anew when it is replayed; what happened before is kept in a header, so that a letter that fails again
comes back with its history.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from amqp.basic_message import Message

from services.chassis import wire

DELIVERY_LIMIT: Final = 100
"""After so many crashes in mid-handling the broker itself gives a message up; failures are counted by the chassis."""

BY_THE_BROKER: Final[Mapping[str, str]] = {
    "delivery_limit": "the service ended again and again while it was handling this message",
    "rejected": "given up by the broker: rejected by whoever had taken it",
}
"""The kinds of letters that the broker itself gave up, and what is said of them."""

HISTORY: Final = "x-oms-history"
LONGEST_HISTORY: Final = 20
HIDDEN: Final = "(hidden)"
_OURS: Final = "x-oms-"
_OF_THE_BROKER: Final = ("x-death", "x-first-death", "x-last-death", "x-delivery-count", "x-acquired-count")
_SECRET: Final = re.compile(r"passw|secret|token|authori[sz]ation|credential|cookie|api_?key|cvc|cvv", re.IGNORECASE)
_EVENT_QUEUE: Final = re.compile(r"evt-(?P<source>.+)-(?P<event>[A-Za-z]+)--(?P<handler>.+)")
_KEPT_PROPERTIES: Final = (
    "content_type",
    "content_encoding",
    "message_id",
    "correlation_id",
    "type",
    "timestamp",
    "app_id",
)


@dataclass(frozen=True)
class DeadLetter:
    """One message that was given up. ``id`` stays the same for as long as it lies there."""

    service: str
    queue: str
    handler: str
    message_id: str
    kind: str
    reason: str
    attempts: int
    failures: int
    failed_at: str
    routing_key: str
    history: Sequence[Mapping[str, Any]]
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: bytes

    @classmethod
    def read(cls, service: str, message: Message) -> Self:
        """The letter in a message of the dead letters; those that the broker itself gave up have no marks of ours."""
        headers = message.properties.get("application_headers") or {}
        death = _first_death(headers)
        queue = str(headers.get("x-oms-queue") or death.get("queue", ""))
        named = _EVENT_QUEUE.fullmatch(queue)
        return cls(
            service=service,
            queue=queue,
            handler=str(headers.get("x-oms-handler") or (named["handler"] if named else "")),
            message_id=str(message.properties.get("message_id") or ""),
            kind=str(headers.get("x-oms-kind") or death.get("reason", "unknown")),
            reason=str(headers.get("x-oms-reason") or _reason_of(death)),
            attempts=_number(headers.get("x-oms-attempt")) or _attempts_of(death),
            failures=_number(headers.get("x-oms-failures")),
            failed_at=str(headers.get("x-oms-failed-at") or _instant(death.get("time"))),
            routing_key=str(headers.get("x-oms-routing-key", "")),
            history=_history(headers),
            headers=headers,
            properties=message.properties,
            body=message.body.encode() if isinstance(message.body, str) else bytes(message.body),
        )

    @property
    def id(self) -> str:
        """What a person calls it by."""
        parts = (self.message_id, self.handler, self.failed_at, hashlib.sha256(self.body).hexdigest())
        return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]

    @property
    def event_id(self) -> str:
        """The id of its event: the message's own, or what the body says."""
        return self.message_id or str(self._payload().get("event_id") or "")

    @property
    def event(self) -> str:
        """The type of its event, or the method that was called."""
        named = _EVENT_QUEUE.fullmatch(self.queue)
        return named["event"] if named else self.routing_key

    @property
    def order_id(self) -> str | None:
        """The order it is about, if its body says so."""
        found = self._payload().get("order_id")
        return found if isinstance(found, str) else None

    def _payload(self) -> Mapping[str, Any]:
        with suppress(ValueError, RecursionError):
            payload = wire.decode(self.body)
            if isinstance(payload, dict):
                return payload
        return {}

    def summary(self) -> dict[str, Any]:
        """What a list shows of it."""
        return {
            "id": self.id,
            "service": self.service,
            "event": self.event,
            "orderId": self.order_id,
            "messageId": self.message_id,
            "handler": self.handler,
            "kind": self.kind,
            "reason": self.reason,
            "attempts": self.attempts,
            "failedAt": self.failed_at,
            "replays": len(self.history),
        }

    def view(self) -> dict[str, Any]:
        """All of it, without secrets; a body that is no JSON is only measured, for nobody can say what is in it."""
        try:
            payload = redacted(wire.decode(self.body))
        except (ValueError, RecursionError):
            payload = f"(no JSON: {len(self.body)} bytes, sha256 {hashlib.sha256(self.body).hexdigest()})"
        headers = {name: value for name, value in self.headers.items() if name != HISTORY}
        more = {"failures": self.failures, "queue": self.queue, "history": list(self.history)}
        return self.summary() | more | {"headers": plain(redacted(headers)), "payload": payload}

    def again(self) -> Message:
        """The message as it was first sent, with what happened to it since."""
        kept = {
            name: value
            for name, value in self.headers.items()
            if not name.startswith((_OURS, *_OF_THE_BROKER)) or name == HISTORY
        }
        entry = {"failedAt": self.failed_at, "kind": self.kind, "reason": self.reason, "attempts": self.attempts}
        entry["replayedAt"] = datetime.now(UTC).isoformat()
        kept[HISTORY] = json.dumps([*self.history, entry][-LONGEST_HISTORY:])
        return self._copy(kept)

    def discarded(self, by: str, reason: str) -> Message:
        """The message as it lies here, with who threw it away and why."""
        kept = {name: value for name, value in self.headers.items() if name not in _OF_THE_BROKER}
        kept |= {"x-oms-queue": self.queue, "x-oms-handler": self.handler, "x-oms-failed-at": self.failed_at}
        kept |= {"x-oms-discarded-at": datetime.now(UTC).isoformat(), "x-oms-discarded-by": by}
        return self._copy(kept | {"x-oms-discarded-because": reason})

    def _copy(self, headers: Mapping[str, Any]) -> Message:
        properties = {name: self.properties[name] for name in _KEPT_PROPERTIES if name in self.properties}
        return Message(self.body, application_headers=dict(headers), delivery_mode=2, **properties)


def _first_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the broker says of a message that it gave up by itself."""
    deaths = headers.get("x-death")
    return deaths[-1] if isinstance(deaths, list) and deaths and isinstance(deaths[-1], dict) else {}


def _reason_of(death: Mapping[str, Any]) -> str:
    reason = str(death.get("reason", "no reason said"))
    return BY_THE_BROKER.get(reason, f"given up by the broker: {reason}")


def _attempts_of(death: Mapping[str, Any]) -> int:
    """How often it was tried; the broker's own count is by now of the looks at it here."""
    return DELIVERY_LIMIT + 1 if death.get("reason") == "delivery_limit" else 0


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _instant(value: object) -> str:
    return value.replace(tzinfo=UTC).isoformat() if isinstance(value, datetime) else str(value or "")


def _history(headers: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(headers.get(HISTORY, "[]"))
    except (ValueError, TypeError, RecursionError):
        return []
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def redacted(value: Any) -> Any:
    """The value with everything hidden that is named like a secret."""
    if isinstance(value, Mapping):
        return {name: HIDDEN if _SECRET.search(str(name)) else redacted(each) for name, each in value.items()}
    return [redacted(each) for each in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Headers as JSON can say them."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
