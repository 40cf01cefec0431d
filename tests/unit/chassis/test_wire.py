from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis import wire

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that travels."""

    thing_id: UUID
    price: Decimal
    at: datetime


class TestWire:
    """JSON as it travels."""

    @given(PLAIN)
    def test_plain_values_come_back_as_they_were(self, value: object) -> None:
        """Whatever they are."""
        assert wire.decode(wire.encode(value)) == value

    @given(st.decimals(-(10**12), 10**12, places=2))
    def test_amounts_come_back_to_the_cent(self, amount: Decimal) -> None:
        """A number on the wire, a Decimal on both sides."""
        back = wire.decode(wire.encode(amount))

        assert (back, type(back)) == (amount, Decimal)

    def test_a_dataclass_comes_back(self) -> None:
        """UUIDs and times as text between."""
        thing = Thing(thing_id=UUID(int=1), price=Decimal("1.50"), at=datetime(2026, 1, 1, 12, tzinfo=UTC))

        text = wire.encode(thing)

        assert text == b'{"thing_id":"00000000-0000-0000-0000-000000000001","price":1.50,"at":"2026-01-01T12:00:00Z"}'
        assert wire.build(wire.decode(text), Thing) == thing

    def test_unknown_fields_are_ignored(self) -> None:
        """So that fields may be added."""
        fields = {"thing_id": str(UUID(int=1)), "price": Decimal(1), "at": "2026-01-01T12:00:00+02:00", "new": 1}

        thing = wire.build(fields, Thing)

        assert thing.at == datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))

    @pytest.mark.parametrize("change", [{"thing_id": 5}, {"thing_id": "x"}, {"price": None}, {"at": "yesterday"}])
    def test_wrong_fields_are_refused(self, change: dict[str, object]) -> None:
        """Nothing is bent into shape."""
        fields = {"thing_id": str(UUID(int=1)), "price": Decimal(1), "at": "2026-01-01T12:00:00Z"}

        with pytest.raises(ValueError, match=r"."):
            wire.build(fields | change, Thing)

    @pytest.mark.parametrize(
        "text",
        [b"", b"{", b"NaN", b"Infinity", b'{"a":1,}', b"'a'", b"\xff", b'"\xff"', b'"\\ud800"', b"01", b"1 2"],
    )
    def test_what_is_no_json_is_refused(self, text: bytes) -> None:
        """Strictly."""
        with pytest.raises(ValueError, match=r"."):
            wire.decode(text)

    @pytest.mark.parametrize("text", [b"1e309", b"-1e309", b"1e-309", b"1e999999", b"1e99999999999999999999"])
    def test_numbers_beyond_a_double_are_refused(self, text: bytes) -> None:
        """They are cheap to send and dear to count with."""
        with pytest.raises(ValueError, match=r"."):
            wire.decode(text)

    @pytest.mark.parametrize(
        "text", [b"1.5", b"-0.01", b"1e308", b"0.000", b"12345678901234567890.12345678901234567890"]
    )
    def test_fractions_are_exact(self, text: bytes) -> None:
        """Digit by digit."""
        assert wire.decode(text) == Decimal(text.decode())

    def test_now_is_utc(self) -> None:
        """With a Z."""
        assert wire.now_text().endswith("Z")
        assert abs(datetime.fromisoformat(wire.now_text()) - datetime.now(UTC)) < timedelta(seconds=5)
