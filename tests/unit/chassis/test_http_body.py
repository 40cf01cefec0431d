from decimal import Decimal
from io import BytesIO

import pytest
from eventlet import wsgi

from services.chassis.http_body import is_unread, parse_object, read_body
from services.chassis.problems import Refusal


def a_body(content: bytes, *, length: int | None = None) -> wsgi.Input:
    """A body as eventlet offers it: chunked where no length is given."""
    return wsgi.Input(BytesIO(content), length, None, chunked_input=length is None)


def the_refusal(content: bytes) -> Refusal:
    """How this is refused."""
    with pytest.raises(Refusal) as caught:
        parse_object(content)
    return caught.value


class TestParseObject:
    """What counts as a JSON object."""

    def test_keeps_fractions_exact(self) -> None:
        """Money never passes through a float."""
        parsed = parse_object(b'{"price": 19.90, "quantity": 3}')

        assert parsed == {"price": Decimal("19.90"), "quantity": 3}
        assert isinstance(parsed["price"], Decimal)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{",
            b"{} {}",
            b'{"a": NaN}',
            b'{"a": -Infinity}',
            b'{"a": 1, "a": 2}',
            b'{"a": {"b": 1, "b": 1}}',
            b"\xef\xbb\xbf{}",
            '{"a": "ü"}'.encode("utf-16"),
            '{"a": "ü"}'.encode("latin-1"),
            b'{"a": "\\ud800"}',
            b'{"\\udc00": 1}',
            b'{"a": ["\\u0000"]}',
            b'{"a": "\x00"}',
            b'{"a": 1e999999999}',
            b'{"a": ' + b"1" * 41 + b"}",
            b'{"a": 0.' + b"1" * 41 + b"}",
            b'{"a": ' * 21 + b"1" + b"}" * 21,
            b'{"a": ' + b"[" * 30000 + b"]" * 30000 + b"}",
        ],
    )
    def test_refuses_what_is_no_strict_object(self, content: bytes) -> None:
        """Where two readers may see two things, neither gets to see one."""
        refusal = the_refusal(content)

        assert (refusal.status, refusal.code) == (400, "malformed_json")

    @pytest.mark.parametrize(
        ("content", "value"),
        [
            (b'{"a": "\\u00fc\\n"}', "ü\n"),
            (b'{"a": "\\ud83d\\ude00"}', "\U0001f600"),
            (b'{"a": "\\\\u0000"}', "\\u0000"),
        ],
    )
    def test_takes_escapes_that_are_text(self, content: bytes, value: str) -> None:
        """An escaped backslash before ``u0000`` is five harmless characters."""
        assert parse_object(content) == {"a": value}


class TestReadBody:
    """Reading a body from a connection."""

    def test_returns_what_the_length_promises(self) -> None:
        """And leaves the next request where it is."""
        body = a_body(b"abcdefGET /", length=6)

        assert read_body(body, 10) == b"abcdef"
        assert not is_unread(body)

    def test_joins_chunks(self) -> None:
        """With extensions and trailers read over."""
        body = a_body(b"3;a=b\r\nabc\r\n3\r\ndef\r\n0\r\nX: y\r\n\r\nGET /")

        assert read_body(body, 6) == b"abcdef"
        assert not is_unread(body)
        assert body.rfile.read() == b"GET /"

    @pytest.mark.parametrize("body", [a_body(b"x" * 7, length=7), a_body(b"4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n")])
    def test_refuses_more_than_the_limit(self, body: wsgi.Input) -> None:
        """Chunked or not."""
        with pytest.raises(Refusal) as caught:
            read_body(body, 6)

        assert caught.value.status == 413
        assert is_unread(body)

    @pytest.mark.parametrize(
        "content",
        [
            b"-1\r\n",
            b"+1\r\na\r\n0\r\n\r\n",
            b"0x1\r\na\r\n0\r\n\r\n",
            b"1_0\r\n",
            b"\r\n",
            b"1\na\n0\n\n",
            b"1\r\nabc\r\n0\r\n\r\n",
            b"1\r\na",
            b"",
            b"0\r\nX: y",
            b"1;" + b"e" * 300 + b"\r\na\r\n0\r\n\r\n",
        ],
    )
    def test_refuses_malformed_chunks(self, content: bytes) -> None:
        """Each of these has been read in two ways by two servers."""
        with pytest.raises(Refusal) as caught:
            read_body(a_body(content), 100)

        assert (caught.value.status, caught.value.code) == (400, "bad_framing")

    def test_refuses_a_body_that_breaks_off(self) -> None:
        """Half of a JSON object may be another one."""
        with pytest.raises(Refusal) as caught:
            read_body(a_body(b"abc", length=6), 100)

        assert caught.value.code == "incomplete_body"
