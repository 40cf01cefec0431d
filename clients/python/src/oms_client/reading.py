"""From JSON to the dataclasses of ``models.py`` and back: camelCase there, snake_case here, by their annotations."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Any, Final, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from oms_client.errors import UnexpectedAnswer

Kind = TypeVar("Kind")


class _Field(NamedTuple):
    name: str
    key: str
    hint: Any
    is_required: bool


def parse(content: bytes | str) -> Any:
    """The JSON, its fractions as Decimal; None for none at all. Raises UnexpectedAnswer for what is no JSON."""
    try:
        return json.loads(content, parse_float=Decimal) if content else None
    except ValueError:
        raise UnexpectedAnswer("The answer is not JSON.") from None


def write(body: Mapping[str, Any]) -> bytes:
    """The JSON of a request, without the members that are None."""
    given = {_camel(name): value for name, value in body.items() if value is not None}
    return json.dumps(given, default=_plain, allow_nan=False).encode()


def read(kind: type[Kind], document: Any) -> Kind:
    """The document as that dataclass. Raises UnexpectedAnswer where it does not fit."""
    if not isinstance(document, Mapping):
        raise UnexpectedAnswer(f"{kind.__name__} was expected, not {type(document).__name__}.")
    described = _fields(cast("Any", kind))
    lacking = [field.key for field in described if field.is_required and field.key not in document]
    if lacking:
        raise UnexpectedAnswer(f"{kind.__name__} is without {', '.join(lacking)}.")
    present = (field for field in described if field.key in document)
    return kind(**{field.name: _value(field, field.hint, document[field.key]) for field in present})


@cache
def _fields(kind: Any) -> tuple[_Field, ...]:
    hints = get_type_hints(kind)
    return tuple(
        _Field(
            field.name,
            _camel(field.name),
            hints[field.name],
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
    )


def _value(field: _Field, hint: Any, value: Any) -> Any:
    if get_origin(hint) in (Union, UnionType):
        return None if value is None else _value(field, get_args(hint)[0], value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(field, get_args(hint)[0], each) for each in value)
    if is_dataclass(hint):
        return read(hint, value)  # type: ignore[arg-type]
    try:
        return _READERS[next(each for each in hint.__mro__ if each in _READERS)](hint, value)
    except (ValueError, TypeError, AttributeError, StopIteration):
        raise UnexpectedAnswer(f"{field.key} is not as it should be.") from None


def _exactly(hint: type, value: Any) -> Any:
    if type(value) is not hint:
        raise TypeError
    return value


def _instant(_hint: type, value: Any) -> datetime:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError
    return at


def _amount(_hint: type, value: Any) -> Decimal:
    if type(value) not in (int, Decimal):
        raise TypeError
    return Decimal(value)


_READERS: Final[Mapping[type, Callable[[Any, Any], Any]]] = {
    StrEnum: lambda hint, value: hint(value),
    UUID: lambda _hint, value: UUID(value),
    datetime: _instant,
    Decimal: _amount,
    bool: _exactly,
    int: _exactly,
    str: _exactly,
}


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)  # its shortest form is the amount again, up to fifteen digits
    if isinstance(value, UUID):
        return str(value)
    if is_dataclass(value):
        given = ((field.name, getattr(value, field.name)) for field in fields(value))
        return {_camel(name): each for name, each in given if each is not None}
    raise TypeError(f"{type(value).__name__} cannot be sent.")
