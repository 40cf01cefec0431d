"""What notifications reads of others: a customer's contact, and its own records in Redis."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.chassis import wire
from services.chassis.errors import NotFound
from services.chassis.schema import read_id
from services.notifications.models import Channel, Kind


@dataclass(frozen=True)
class Contact:
    """Where a customer's messages go. Raises ValueError for what would break out of a message's header."""

    email: str
    phone: str | None = None
    first_name: str | None = None

    def __post_init__(self) -> None:
        for value in (self.email, self.phone, self.first_name):
            if any(unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp") for sign in value or ""):
                raise ValueError("a contact must not contain control characters")

    @classmethod
    def read(cls, contact: Mapping[str, Any]) -> "Contact":
        """The contact as users tells it."""
        return cls(contact["email"], contact["phone"], contact["firstName"])


@dataclass(frozen=True, kw_only=True)
class Sent:
    """That a message was sent, kept as long as anybody may ask."""

    at: datetime
    kind: Kind
    channels: tuple[Channel, ...]
    event: str
    event_id: UUID
    causation_id: UUID | None
    user_id: UUID

    def step(self) -> dict[str, Any]:
        """As a step of the order's journey."""
        return {
            "at": self.at,
            "service": "notifications",
            "event": self.event,
            "event_id": self.event_id,
            "causation_id": self.causation_id,
            "attempt": 1,
            "outcome": "sent",
            "note": f"{self.kind} by {' and '.join(self.channels)}",
        }


def encode_sent(sent: Sent) -> bytes:
    """The record as it stands in Redis."""
    return wire.encode(sent)


def decode_sent(record: bytes | str) -> Sent:
    """The record that stands in Redis."""
    return wire.build(wire.decode(record), Sent)


def read_order_id(text: object) -> UUID:
    """The id that the text writes. Raises NotFound: what is no id names no order."""
    return read_id(text, NotFound("order_not_found", "There is no such order."))
