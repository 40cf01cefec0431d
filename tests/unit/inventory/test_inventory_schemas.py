from decimal import Decimal
from uuid import UUID

import pytest

from services.chassis.errors import InvalidInput
from services.chassis.schema import encode_cursor
from services.inventory.schemas import (
    NEW_PRODUCT,
    PRODUCT_CHANGE,
    PRODUCT_QUERY,
    STOCK_ADJUSTMENT,
    cut_page,
    read_ledger_cursor,
    read_product_cursor,
    read_product_ids,
)

AN_ID = UUID("0b0f8a3e-6a52-4a1c-9a3c-3d1f6a7b8c9d")


def pointers(schema: object, body: object) -> list[str]:
    """Where the schema finds the body broken."""
    with pytest.raises(InvalidInput) as refused:
        schema.read(body)  # type: ignore[attr-defined] # every schema reads
    return sorted(each["pointer"] for each in refused.value.extra["errors"])


class TestNewProduct:
    """A product as it is written."""

    def test_reads_the_price_as_cents(self) -> None:
        """And leaves what is not given to the model."""
        assert NEW_PRODUCT.read({"name": " Lamp ", "price": Decimal("12.50")}) == {
            "name": "Lamp",
            "unit_price_cents": 1_250,
        }

    @pytest.mark.parametrize(
        ("body", "broken"),
        [
            ({}, ["/name", "/price"]),
            ({"name": "", "price": Decimal("0.001")}, ["/name", "/price"]),
            ({"name": "x\x00y", "price": -1}, ["/name", "/price"]),
            ({"name": "Lamp", "price": 1, "active": "yes"}, ["/active"]),
            ({"name": "Lamp", "price": 1, "onHand": 5}, ["/onHand"]),
            ("Lamp", [""]),
        ],
    )
    def test_lists_everything_that_is_wrong(self, body: object, broken: list[str]) -> None:
        """Each with its place."""
        assert pointers(NEW_PRODUCT, body) == broken

    def test_changes_only_what_is_given(self) -> None:
        """Everything may be left out."""
        assert PRODUCT_CHANGE.read({}) == {}
        assert PRODUCT_CHANGE.read({"active": False}) == {"active": False}


class TestStockAdjustment:
    """How the stock is changed by hand."""

    @pytest.mark.parametrize("delta", [0, 1.5, True, "3", 10**10, None])
    def test_refuses_what_is_no_number_of_pieces(self, delta: object) -> None:
        """Nothing is none either."""
        assert pointers(STOCK_ADJUSTMENT, {"delta": delta, "reason": "count"}) == ["/delta"]

    def test_wants_a_reason(self) -> None:
        """The ledger keeps it."""
        assert pointers(STOCK_ADJUSTMENT, {"delta": 1}) == ["/reason"]


class TestQueries:
    """What a list is asked for."""

    def test_have_defaults(self) -> None:
        """Twenty from the first on."""
        assert PRODUCT_QUERY.read({}) == {"limit": 20, "cursor": "", "search": ""}

    @pytest.mark.parametrize("limit", ["0", "101", "many", ""])
    def test_refuse_a_limit_out_of_bounds(self, limit: str) -> None:
        """One to a hundred."""
        assert pointers(PRODUCT_QUERY, {"limit": limit}) == ["/limit"]

    def test_begin_where_the_last_page_ended(self) -> None:
        """The cursor is the place of its last row."""
        rows, cursor = cut_page([1, 2, 3], 2, lambda row: (row,))

        assert (list(rows), read_ledger_cursor(cursor or "")) == ([1, 2], 2)
        assert cut_page([1, 2], 2, lambda row: (row,)) == ([1, 2], None)

    @pytest.mark.parametrize(
        "cursor", ["nonsense", encode_cursor(["x"]), encode_cursor([True]), encode_cursor([2**70])]
    )
    def test_refuse_a_cursor_nobody_gave_out(self, cursor: str) -> None:
        """Whatever it says."""
        with pytest.raises(InvalidInput):
            read_ledger_cursor(cursor)
        with pytest.raises(InvalidInput):
            read_product_cursor(cursor)


class TestIds:
    """What names a product."""

    def test_are_no_more_than_an_order_has_lines(self) -> None:
        """A hundred at a time."""
        assert read_product_ids([str(AN_ID)] * 100) == [AN_ID] * 100
        with pytest.raises(InvalidInput):
            read_product_ids([str(AN_ID)] * 101)
