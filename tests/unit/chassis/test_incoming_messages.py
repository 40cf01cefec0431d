"""A delivery's properties are read without trust."""

import struct

import pytest
from amqp import method_framing
from amqp.serialization import dumps

from services.chassis.consumer import UNREADABLE, IncomingMessage
from services.chassis.redelivery import MOST_HEADER_BYTES, _portable, count


def header(flags: int, properties: bytes) -> bytes:
    """A content header frame of class basic."""
    return struct.pack(">HHQH", 60, 0, 0, flags) + properties


def table(item: bytes) -> bytes:
    """A table with one field ``a``."""
    field = b"\x01a" + item
    return struct.pack(">I", len(field)) + field


def nested(depth: int) -> bytes:
    """Tables in tables."""
    item = b"V"
    for _ in range(depth):
        item = b"F" + table(item)
    return table(item)


def read(frame: bytes) -> IncomingMessage:
    """The message with this header."""
    message = IncomingMessage()
    message.inbound_header(frame)
    return message


class TestIncomingMessage:
    """Nonsense is marked as unreadable and raises nothing."""

    def test_is_what_the_library_makes(self) -> None:
        """py-amqp reads every delivery as one."""
        assert method_framing.Message is IncomingMessage

    def test_reads_good_properties(self) -> None:
        """As they are."""
        frame = header(0x8000 | 0x2000, dumps("sF", ["application/json", {"a": 1}]))

        assert read(frame).properties == {"content_type": "application/json", "application_headers": {"a": 1}}

    @pytest.mark.parametrize(
        "frame",
        [
            header(0x8000, b"\x02\xff\xfe"),
            header(0x2000, table(b"Z\x00")),
            header(0x2000, table(b"T" + b"\xff" * 8)),
            header(0x2000, nested(5000)),
            header(0x2000, struct.pack(">I", 2**31)),
            header(0x8000, b""),
        ],
        ids=["invalid UTF-8", "unknown type", "time without end", "tables without end", "cut table", "cut text"],
    )
    def test_marks_what_it_cannot_read(self, frame: bytes) -> None:
        """Instead of ending the connection, again and again."""
        message = read(frame)

        assert message.properties["application_headers"].keys() == {UNREADABLE}
        assert message.ready


class TestPortable:
    """What of a message's headers goes along to its next queue."""

    def test_keeps_plain_headers_and_drops_the_brokers(self) -> None:
        """x-death and its kind tell of the broker's own moves."""
        headers = {"a": 1, "b": {"c": ["d", None, True]}, "x-death": [{"count": 1}], "x-delivery-count": 3}

        assert _portable(headers) == {"a": 1, "b": {"c": ["d", None, True]}}

    def test_drops_what_cannot_be_sent(self) -> None:
        """Numbers too large, types unknown, names too long."""
        assert _portable({"a": 2**70, "b": object(), "c" * 300: 1, "d": memoryview(b"x"), "e": 5}) == {"e": 5}

    def test_drops_what_leaves_no_room(self) -> None:
        """All headers must fit into one frame, with our marks."""
        half = "x" * (MOST_HEADER_BYTES // 2)

        assert _portable({"a": half, "b": half, "c": "small"}).keys() == {"a", "c"}


class TestCount:
    """A counter out of headers that anybody may have written."""

    @pytest.mark.parametrize("value", [None, "3", True, -1, 10**6, 2.0, [1]])
    def test_believes_no_nonsense(self, value: object) -> None:
        """The other value stands for it."""
        assert count({"n": value}, "n", 1) == 1

    def test_reads_a_number(self) -> None:
        """As it is."""
        assert count({"n": 4}, "n", 1) == 4
