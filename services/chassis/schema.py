"""marshmallow, as every boundary here uses it: camelCase outside, snake_case inside, unknown fields refused.

Money is a number with at most two decimals outside and integer cents inside; it is never a float. Every broken rule of
an input is listed at once, each with its JSON pointer (RFC 6901).
"""

import base64
import binascii
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import marshmallow
from marshmallow import ValidationError, fields, validate

from services.chassis import wire
from services.chassis.errors import InvalidInput, NotFound

MOST_CENTS: Final = 10**15
LONGEST_CURSOR: Final = 512
CURSOR_SAYS: Final = {
    "description": "The `nextCursor` of the page before.",
    "pattern": "^[A-Za-z0-9_-]*$",
    "maxLength": LONGEST_CURSOR,
}
"""What a cursor is, for whoever reads the contract."""


def camel_case(name: str) -> str:
    """``unit_price`` as ``unitPrice``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Schema(marshmallow.Schema):
    """A schema that speaks camelCase outside and refuses what it does not know."""

    class Meta:
        """marshmallow's own settings."""

        unknown = marshmallow.RAISE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Give every field its camelCase name outside."""
        field_obj.data_key = field_obj.data_key or camel_case(field_name)

    def read(self, body: object) -> dict[str, Any]:
        """The validated values under their inside names; raises InvalidInput that lists every broken rule."""
        if not isinstance(body, Mapping):
            raise invalid([("", "must be an object")])
        try:
            loaded: dict[str, Any] = self.load(body)
        except ValidationError as error:
            raise invalid(list(_broken(error.messages))) from None
        return loaded

    def show(self, thing: object) -> dict[str, Any]:
        """The thing as a client sees it."""
        shown: dict[str, Any] = self.dump(thing, many=False)
        return shown

    def show_all(self, things: Iterable[Any]) -> list[dict[str, Any]]:
        """Each of the things as a client sees it."""
        return [self.show(thing) for thing in things]


def invalid(broken: Sequence[tuple[str, str]]) -> InvalidInput:
    """The error that lists these (JSON pointer, complaint) pairs."""
    errors = [{"pointer": pointer, "detail": detail} for pointer, detail in broken]
    return InvalidInput("validation_failed", "Some fields are not valid.", {"errors": errors})


def _broken(messages: Any, pointer: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            step = "" if key == "_schema" else "/" + str(key).replace("~", "~0").replace("/", "~1")
            yield from _broken(inner, pointer + step)
    else:
        for message in messages:
            yield pointer, str(message)


class Money(fields.Field[int]):
    """Integer cents inside, a JSON number with at most two decimals outside."""

    default_error_messages = {  # noqa: RUF012 - marshmallow's own way
        "money": "Must be a number of at most two decimals that is not negative.",
    }

    def _serialize(self, value: int | None, attr: str | None, obj: Any, **kwargs: Any) -> Decimal | None:
        return None if value is None else Decimal(value).scaleb(-2)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise self.make_error("money")
        if not 0 <= value * 100 <= MOST_CENTS or value != round(value, 2):
            raise self.make_error("money")
        return int(value * 100)


class Instant(fields.Field[datetime]):
    """An aware time inside; RFC 3339 in UTC with ``Z`` outside."""

    default_error_messages = {"instant": "Must be an RFC 3339 time with an offset."}  # noqa: RUF012 - likewise

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            instant = datetime.fromisoformat(value)
            if instant.tzinfo is None:
                raise self.make_error("instant")
            return instant.astimezone(UTC)
        except (TypeError, ValueError, OverflowError):
            raise self.make_error("instant") from None


class Whole(fields.Integer):
    """A whole number: no text, no fraction, no boolean. ``5.0`` is one, as JSON Schema has it."""

    def __init__(self, smallest: int, largest: int, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(smallest, largest), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or int(value) != value:
            raise self.make_error("invalid", input=value)
        return super()._deserialize(int(value), attr, data, **kwargs)


class Text(fields.String):
    """A text of ``shortest`` to ``longest`` characters once trimmed, without control characters or lone surrogates.

    ``lines=True`` also allows line breaks and tabs.
    """

    default_error_messages = {"control": "Must not contain control characters."}  # noqa: RUF012 - likewise

    def __init__(self, shortest: int, longest: int, *, lines: bool = False, **kwargs: Any) -> None:
        super().__init__(validate=validate.Length(shortest, longest), **kwargs)
        self.allowed = "\n\r\t" if lines else ""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs) or ""
        if _is_unspeakable(text, self.allowed):  # before trimming, which would hide some of them
            raise self.make_error("control")
        return text.strip()


def _is_unspeakable(value: object, allowed: str = "") -> bool:
    """Whether it is a text with control characters or lone surrogates, some of which no database takes."""
    return isinstance(value, str) and any(
        unicodedata.category(sign) in ("Cc", "Cs") and sign not in allowed for sign in value
    )


def read_id(text: object, unknown: NotFound) -> UUID:
    """The id that the text writes; raises ``unknown`` for what is no id at all, since nothing has it."""
    try:
        return UUID(str(text))
    except ValueError:
        raise unknown from None


def encode_cursor(values: Sequence[object]) -> str:
    """An opaque text for "after this row"."""
    return base64.urlsafe_b64encode(wire.encode(list(values))).decode().rstrip("=")


def decode_cursor(cursor: object, length: int) -> list[Any]:
    """The ``length`` values of a cursor, texts without control characters; raises InvalidInput for what is none."""
    values = None
    if isinstance(cursor, str) and len(cursor) <= LONGEST_CURSOR:
        with suppress(ValueError, binascii.Error, RecursionError):
            padded = cursor + "=" * (-len(cursor) % 4)
            values = wire.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    if not isinstance(values, list) or len(values) != length or any(map(_is_unspeakable, values)):
        raise bad_cursor()
    return values


def bad_cursor() -> InvalidInput:
    """What somebody hears who sends a cursor that nobody gave them."""
    return invalid([("/cursor", "Is not a cursor this service gave out.")])
