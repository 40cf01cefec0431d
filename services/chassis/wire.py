"""JSON as it travels: RPC, events and cached values alike.

Numbers with a fraction are ``Decimal`` on both sides, never a float; UUIDs and times leave as text (times with ``Z``).
NaN, infinities and invalid UTF-8 are refused. ``config.yaml`` registers the two functions with kombu as the serializer
``exact-json`` under the content type ``application/json``, so stock Nameko clients are understood.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar

import msgspec

Kind = TypeVar("Kind")

_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(float_hook=Decimal)


def encode(payload: object) -> bytes:
    """The JSON text of plain values, dataclasses, UUIDs, decimals and aware times."""
    return _encoder.encode(payload)


def decode(text: bytes | str | memoryview) -> Any:
    """The plain values of a JSON text; raises ValueError when it is none."""
    return _decoder.decode(text)


def build(payload: Mapping[str, Any], kind: type[Kind]) -> Kind:
    """An instance of the dataclass ``kind``; unknown fields are ignored, wrong or missing ones raise ValueError."""
    return msgspec.convert(payload, kind)


@cache
def _reader(kind: type[Kind]) -> msgspec.json.Decoder[Kind]:
    return msgspec.json.Decoder(kind)


def encode_checked(instance: object) -> bytes:
    """The JSON text of a dataclass that whoever reads it will accept; raises ValueError when its own types are broken."""
    encoded = encode(instance)
    _reader(type(instance)).decode(encoded)
    return encoded


def now_text() -> str:
    """The time now, as it travels."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
