"""JSON as it travels: RPC, events and cached values alike.

Numbers with a fraction are ``Decimal`` on both sides, never a float; UUIDs and times leave as text (times with ``Z``).
What is read must be strict JSON: no NaN, no invalid UTF-8, no number beyond what a double can hold. ``config.yaml``
registers the two functions with kombu as the serializer ``exact-json`` under the content type ``application/json``, so
stock Nameko clients are understood.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

import msgspec

Kind = TypeVar("Kind")

LARGEST_EXPONENT: Final = 308


def _exact(number: str) -> Decimal:
    """The number as written; one of a million digits would be cheap to send and dear to count with."""
    try:
        exact = Decimal(number)
    except InvalidOperation:
        raise ValueError("a number out of range") from None
    if abs(exact.adjusted()) > LARGEST_EXPONENT:
        raise ValueError("a number out of range")
    return exact


_encoder = msgspec.json.Encoder(decimal_format="number")
_readers: Final[dict[type, msgspec.json.Decoder[object]]] = {}
_decoder = msgspec.json.Decoder(float_hook=_exact)


def encode(payload: object) -> bytes:
    """The JSON text of plain values, dataclasses, UUIDs, decimals and aware times."""
    return _encoder.encode(payload)


def decode(text: bytes | str | memoryview) -> Any:
    """The plain values of a JSON text; raises ValueError when it is none."""
    return _decoder.decode(text)


def build(payload: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """An instance of the dataclass ``kind``; unknown fields are ignored, wrong or missing ones raise ValueError."""
    return msgspec.convert(payload, kind)


def encode_checked(instance: object) -> bytes:
    """The JSON text of a dataclass that its readers will accept; raises ValueError when it breaks its own types."""
    encoded, kind = encode(instance), type(instance)
    reader = _readers.get(kind) or _readers.setdefault(kind, msgspec.json.Decoder(kind))
    reader.decode(encoded)
    return encoded


def now_text() -> str:
    """The time now, as it travels."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
