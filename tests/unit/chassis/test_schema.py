from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import marshmallow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import fields

from services.chassis.errors import InvalidInput, NotFound
from services.chassis.schema import (
    MOST_CENTS,
    Instant,
    Money,
    Schema,
    Text,
    Whole,
    decode_cursor,
    encode_cursor,
    read_id,
)


class Line(Schema):
    """Part of a basket."""

    unit_price = Money(required=True)
    quantity = Whole(1, 100)


class Basket(Schema):
    """One field of each kind."""

    customer_name = Text(1, 10)
    note = Text(0, 50, lines=True)
    ready_at = Instant()
    lines = fields.List(fields.Nested(Line))


BASKET = Basket()


def errors(body: object) -> dict[str, str]:
    """The complaints about a body by pointer."""
    with pytest.raises(InvalidInput) as raised:
        BASKET.read(body)
    assert raised.value.code == "validation_failed"
    return {each["pointer"]: each["detail"] for each in raised.value.extra["errors"]}


class TestSchema:
    """camelCase outside, snake_case inside, every broken rule at once."""

    def test_translates_names(self) -> None:
        """Both ways."""
        assert BASKET.read({"customerName": "Ada"}) == {"customer_name": "Ada"}
        assert BASKET.dump({"customer_name": "Ada"}) == {"customerName": "Ada"}

    def test_lists_every_broken_rule_with_its_pointer(self) -> None:
        """Unknown fields too, with the pointer escaped as RFC 6901 says."""
        broken = errors({"customerName": "", "lines": [{"unitPrice": 1, "quantity": 0}, {}], "a/b~c": 1})

        assert broken.keys() == {"/customerName", "/lines/0/quantity", "/lines/1/unitPrice", "/a~1b~0c"}

    @pytest.mark.parametrize("body", [None, [], "x", 5, True])
    def test_reads_nothing_but_objects(self, body: object) -> None:
        """The pointer is the whole document."""
        assert errors(body).keys() == {""}

    def test_does_not_take_inside_names(self) -> None:
        """There is one way to say it."""
        assert errors({"customer_name": "Ada"}).keys() == {"/customer_name"}


class TestMoney:
    """Integer cents inside, at most two decimals outside, never a float."""

    @given(st.integers(0, MOST_CENTS))
    def test_comes_back_to_the_cent(self, cents: int) -> None:
        """Whatever the amount."""
        outside = Line().dump({"unit_price": cents})["unitPrice"]

        assert type(outside) is Decimal
        assert Line().load({"unitPrice": outside})["unit_price"] == cents

    @pytest.mark.parametrize(
        ("value", "cents"), [(0, 0), (5, 500), (Decimal("1.5"), 150), (Decimal("1.500"), 150), (Decimal("1E+2"), 10000)]
    )
    def test_reads_numbers(self, value: object, cents: int) -> None:
        """However they are written."""
        assert Line().load({"unitPrice": value}) == {"unit_price": cents}

    @pytest.mark.parametrize(
        "value",
        [
            -1,
            Decimal("-0.01"),
            Decimal("0.001"),
            Decimal("1.00000000000000000000000000000000001"),
            Decimal("1e300"),
            10**400,
            MOST_CENTS,
            "5",
            5.0,
            True,
            None,
            [1],
        ],
    )
    def test_refuses_everything_else(self, value: object) -> None:
        """Text, floats, fractions of a cent, fortunes."""
        with pytest.raises(marshmallow.ValidationError):
            Line().load({"unitPrice": value})

    def test_shows_two_decimals(self) -> None:
        """As prices are written."""
        assert str(Line().dump({"unit_price": 1900})["unitPrice"]) == "19.00"


class TestInstant:
    """An aware time inside, RFC 3339 with Z outside."""

    def test_comes_back_in_utc(self) -> None:
        """The same instant."""
        read = BASKET.read({"readyAt": "2026-01-01T02:00:00+02:00"})

        assert read == {"ready_at": datetime(2026, 1, 1, tzinfo=UTC)}
        assert BASKET.dump(read) == {"readyAt": "2026-01-01T00:00:00Z"}

    @pytest.mark.parametrize(
        "value", ["2026-01-01T00:00:00", "2026-01-01", "now", "", 5, None, [], "0001-01-01T00:00:00+14:00"]
    )
    def test_refuses_what_is_no_instant(self, value: object) -> None:
        """Without an offset nobody knows when it is."""
        assert errors({"readyAt": value}).keys() == {"/readyAt"}


class TestText:
    """Trimmed, of bounded length, printable."""

    def test_is_trimmed_before_it_is_measured(self) -> None:
        """Spaces around it do not count."""
        assert BASKET.read({"customerName": "  0123456789  "}) == {"customer_name": "0123456789"}

    @pytest.mark.parametrize(
        "value", ["", "   ", "01234567890", 5, None, "a\x00b", "a\x1bb", "a\nb", "ab\n", "\x1cab", "a\ud800b", "a\x7fb"]
    )
    def test_refuses_what_a_name_cannot_be(self, value: Any) -> None:
        """Nor what PostgreSQL or a terminal would stumble over."""
        assert errors({"customerName": value}).keys() == {"/customerName"}

    def test_may_have_lines(self) -> None:
        """Where it says so."""
        assert BASKET.read({"note": "a\nb\tc"}) == {"note": "a\nb\tc"}
        assert errors({"note": "a\x00b"}).keys() == {"/note"}


class TestWhole:
    """A whole number, however JSON writes it."""

    @pytest.mark.parametrize("value", [5, Decimal(5), Decimal("5.00"), Decimal("0.5E+1")])
    def test_reads_whole_numbers(self, value: object) -> None:
        """JSON has one kind of number: what its schema calls an integer is one."""
        (line,) = BASKET.read({"lines": [{"unitPrice": 1, "quantity": value}]})["lines"]

        assert (line["quantity"], type(line["quantity"])) == (5, int)

    @pytest.mark.parametrize(
        "value", ["1", 1.0, Decimal("1.5"), Decimal("1e300"), Decimal("1e-300"), True, 0, 101, None, 10**400]
    )
    def test_refuses_everything_else(self, value: object) -> None:
        """Also what could be bent into one."""
        assert errors({"lines": [{"unitPrice": 1, "quantity": value}]}).keys() == {"/lines/0/quantity"}


class TestReadId:
    """An id as text."""

    def test_comes_back(self) -> None:
        """As a UUID, also where it is one already."""
        wanted = uuid4()

        assert read_id(str(wanted), NotFound("lost", "Lost.")) == wanted
        assert read_id(wanted, NotFound("lost", "Lost.")) == wanted

    @pytest.mark.parametrize("text", ["7", "", None, 7, ["x"], {}])
    def test_is_unknown_when_it_is_none(self, text: object) -> None:
        """What is no id names nothing, as the caller words it."""
        with pytest.raises(NotFound) as refused:
            read_id(text, NotFound("lost", "Lost."))
        assert refused.value.code == "lost"


class TestCursor:
    """An opaque text for "after this row"."""

    def test_comes_back(self) -> None:
        """With the values that were put in, as JSON knows them."""
        cursor = encode_cursor([datetime(2026, 1, 1, tzinfo=UTC), 5])

        assert decode_cursor(cursor, 2) == ["2026-01-01T00:00:00Z", 5]
        assert cursor.isascii()
        assert "=" not in cursor

    @given(st.text(max_size=40))
    def test_refuses_any_text(self, text: str) -> None:
        """With InvalidInput and nothing else."""
        with pytest.raises(InvalidInput):
            decode_cursor(text, 7)

    def test_refuses_what_no_database_can_look_for(self) -> None:
        """NUL in a text that the service never gave out."""
        with pytest.raises(InvalidInput):
            decode_cursor(encode_cursor(["a\0b", 5]), 2)

    @pytest.mark.parametrize("cursor", [None, 5, [], encode_cursor([1]), encode_cursor([1, 2, 3]), "e30", "WzEs" * 200])
    def test_refuses_what_is_none(self, cursor: object) -> None:
        """Too short, too long, of another kind."""
        with pytest.raises(InvalidInput):
            decode_cursor(cursor, 2)
