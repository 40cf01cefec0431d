"""What inventory's RPC takes and returns."""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from marshmallow import ValidationError, fields, validate, validates

from events import MOST_LINES
from services.chassis.errors import NotFound
from services.chassis.schema import (
    CURSOR_SAYS,
    Instant,
    Money,
    Schema,
    Text,
    Whole,
    bad_cursor,
    decode_cursor,
    encode_cursor,
    invalid,
    read_id,
)
from services.inventory.models import Movement

Row = TypeVar("Row")

MOST_PIECES: Final = 10**9


class NewProduct(Schema):
    """A product as an administrator writes it."""

    name = Text(1, 200, required=True)
    description = Text(0, 2000, lines=True)
    unit_price_cents = Money(required=True, data_key="price")
    currency = Text(3, 3, metadata={"description": "Only the one of this cluster.", "pattern": "^[A-Z]{3}$"})
    active = fields.Boolean(truthy={True}, falsy={False})


class ProductChange(Schema):
    """What an administrator may change of a product; what is left out stays."""

    name = Text(1, 200)
    description = Text(0, 2000, lines=True)
    unit_price_cents = Money(data_key="price")
    currency = Text(3, 3, metadata={"description": "Only the one of this cluster.", "pattern": "^[A-Z]{3}$"})
    active = fields.Boolean(truthy={True}, falsy={False})


class StockAdjustment(Schema):
    """How many more (or fewer) there are on the shelf, and why."""

    delta = Whole(-MOST_PIECES, MOST_PIECES, required=True, metadata={"not": {"const": 0}})
    reason = Text(1, 500, required=True)

    @validates("delta")
    def refuse_nothing(self, value: int, **_: Any) -> None:
        """An adjustment by nothing is a mistake."""
        if value == 0:
            raise ValidationError("Must not be 0.")


class ListQuery(Schema):
    """Which part of a list is wanted; everything arrives as text."""

    limit = fields.Integer(load_default=20, validate=validate.Range(1, 100))
    cursor = fields.String(load_default="", metadata=CURSOR_SAYS)


class ProductQuery(ListQuery):
    """Which products are wanted."""

    search = Text(0, 100, load_default="", data_key="q")


class ProductView(Schema):
    """A product as anyone may see it."""

    id = fields.UUID()
    name = fields.String()
    description = fields.String()
    unit_price_cents = Money(data_key="price")
    currency = fields.String()
    available = fields.Integer()
    active = fields.Boolean()
    created_at = Instant()
    updated_at = Instant()


class CatalogueEntry(Schema):
    """A product as the orders service copies it: inside names, for no client's eyes."""

    product_id = fields.UUID(attribute="id", data_key="product_id")
    name = fields.String()
    unit_price_cents = fields.Integer(data_key="unit_price_cents")
    currency = fields.String()
    active = fields.Boolean()
    product_version = fields.Integer(data_key="product_version")


class LedgerView(Schema):
    """A movement of stock as staff may see it."""

    id = fields.UUID()
    kind = fields.String(validate=validate.OneOf(list(Movement)))
    delta = fields.Integer()
    on_hand_after = fields.Integer()
    reserved_after = fields.Integer()
    reason = fields.String()
    actor = fields.String()
    at = Instant()


class StockView(Schema):
    """The levels of a product's stock, and a page of what moved them."""

    on_hand = fields.Integer()
    reserved = fields.Integer()
    available = fields.Integer()
    ledger = fields.List(fields.Nested(LedgerView))
    next_cursor = fields.String(allow_none=True)


NEW_PRODUCT: Final = NewProduct()
PRODUCT_CHANGE: Final = ProductChange()
STOCK_ADJUSTMENT: Final = StockAdjustment()
LIST_QUERY: Final = ListQuery()
PRODUCT_QUERY: Final = ProductQuery()
PRODUCT_VIEW: Final = ProductView()
CATALOGUE_VIEW: Final = CatalogueEntry()
LEDGER_VIEW: Final = LedgerView()
STOCK_VIEW: Final = StockView()


def read_product_id(text: object) -> UUID:
    """The id that the text writes. Raises NotFound: what is no id names no product."""
    return read_id(text, NotFound("product_not_found", "There is no such product."))


def read_product_ids(texts: Sequence[object]) -> list[UUID]:
    """The ids that the texts write; raises NotFound when one writes none or there are more than an order has lines."""
    if len(texts) > MOST_LINES:
        raise invalid([("/productIds", f"Must not be more than {MOST_LINES}.")])
    return [read_product_id(text) for text in texts]


def read_order_id(text: object) -> UUID:
    """The id that the text writes. Raises NotFound: what is no id names no order."""
    return read_id(text, NotFound("order_not_found", "There is no such order."))


def read_product_cursor(cursor: str) -> tuple[str, UUID] | None:
    """Behind which name and id a page of products begins; None for the first page."""
    if not cursor:
        return None
    name, product_id = decode_cursor(cursor, 2)
    try:
        return str(name), UUID(str(product_id))
    except ValueError:
        raise bad_cursor() from None


def read_ledger_cursor(cursor: str) -> int | None:
    """Before which entry a page of the ledger begins; None for the first page."""
    if not cursor:
        return None
    (number,) = decode_cursor(cursor, 1)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**63:
        raise bad_cursor()
    return number


def cut_page(
    rows: Sequence[Row], limit: int, place: Callable[[Row], Sequence[object]]
) -> tuple[Sequence[Row], str | None]:
    """The first ``limit`` rows, and the cursor behind them when there are more."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], encode_cursor(place(rows[limit - 1]))
