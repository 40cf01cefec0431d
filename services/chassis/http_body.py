"""What a request's body may be: at most so long, in at most so long a time, and one strict JSON object.

The body is read before a worker is taken, so a slow client holds no worker. Where JSON leaves room for two readings
(duplicate keys, lone surrogates, ``NaN``) or for harm (NUL, numbers of a million digits) it is refused.
"""

import json
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from eventlet import wsgi

from services.chassis.problems import Refusal

MOST_DIGITS: Final = 40
DEEPEST: Final = 20

_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_LONGEST_CHUNK_LINE: Final = 256
_LONGEST_TRAILER: Final = 4096


def is_unread(source: wsgi.Input) -> bool:
    """Whether some of the body still lies on the connection."""
    if source.chunked_input:
        return bool(source.chunk_length != 0)
    return bool(source.position < (source.content_length or 0))


def read_body(source: wsgi.Input, limit: int) -> bytes:
    """The whole body; raises Refusal 413 above ``limit`` bytes, 400 where it breaks off or its chunks are malformed."""
    if source.chunked_input:
        return _read_chunks(source, limit)
    if source.content_length > limit:
        raise _too_large(limit)
    body: bytes = source.read()
    if is_unread(source):
        raise Refusal(400, "incomplete_body", "The body is shorter than its Content-Length.")
    return body


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, numbers with a fraction as Decimal; raises Refusal 400 ``malformed_json``."""
    try:
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_float=_number,
            parse_int=_whole_number,
            parse_constant=_no_constant,
        )
        if not isinstance(value, dict):
            raise _malformed("The body is not a JSON object.")
        _check_depth(value)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _malformed("The body is not JSON in UTF-8.") from error
    except RecursionError as error:
        raise _malformed("The body is nested too deeply.") from error
    if b"\\u" in body:  # only an escape can say what UTF-8 cannot
        for text in _texts(value):
            _check_text(text)
    return value


def _read_chunks(source: wsgi.Input, limit: int) -> bytes:
    # eventlet's own reader takes "-1" and "0x5" for sizes and does not look at what ends a chunk
    if source.should_send_hundred_continue:
        source.send_hundred_continue_response()
        source.is_hundred_continue_response_sent = True
    chunks = []
    size = 0
    while length := _chunk_length(source.rfile):
        size += length
        if size > limit:
            raise _too_large(limit)
        chunk = source.rfile.read(length + 2)
        if not chunk.endswith(b"\r\n") or len(chunk) != length + 2:
            raise Refusal(400, "bad_framing", "A chunk does not end where it said.")
        chunks.append(chunk[:-2])
    _skip_trailers(source.rfile)
    source.chunk_length = 0
    return b"".join(chunks)


def _chunk_length(stream: Any) -> int:
    match = _CHUNK.fullmatch(stream.readline(_LONGEST_CHUNK_LINE))
    if match is None:
        raise Refusal(400, "bad_framing", "A chunk's size is malformed.")
    return int(match[1], 16)


def _skip_trailers(stream: Any) -> None:
    size = 0
    while (line := stream.readline(_LONGEST_TRAILER)) != b"\r\n":
        size += len(line)
        if size > _LONGEST_TRAILER or not line.endswith(b"\r\n"):
            raise Refusal(400, "bad_framing", "The trailer of the body is malformed.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _malformed("A key stands twice in one object.")
    return members


def _number(text: str) -> Decimal:
    number = Decimal(text)
    # an exponent is a number of digits too: 1e999999999 is short here and a gigabyte as an integer
    if len(text) > MOST_DIGITS or abs(number.adjusted()) > MOST_DIGITS:
        raise _malformed(f"A number has more than {MOST_DIGITS} digits.")
    return number


def _whole_number(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise _malformed(f"A number has more than {MOST_DIGITS} digits.")
    return int(text)


def _no_constant(text: str) -> Any:
    raise _malformed(f"{text} is not JSON.")


def _check_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise _malformed(f"The body is nested more than {DEEPEST} levels deep.")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for inner in _inside(value):
        yield from _texts(inner)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _malformed("A text contains NUL.")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise _malformed("A text contains half of a surrogate pair.")


def _malformed(detail: str) -> Refusal:
    return Refusal(400, "malformed_json", detail)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, "body_too_large", f"The body is larger than {limit} bytes.")
