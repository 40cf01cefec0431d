"""What orders takes and gives over RPC, in the API's own shapes."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from marshmallow import ValidationError, fields, post_load, validate

from events import LONGEST_NOTE, MOST_LINES, MOST_PIECES, CancelReason
from services.chassis.auth import Principal
from services.chassis.journey import STEP
from services.chassis.schema import CURSOR_SAYS, Instant, Money, Schema, Text, Whole, invalid
from services.orders.models import Order
from services.orders.pricing import Wish, WishedLine
from services.orders.tables import HistoryEntry, Product
from services.orders.transitions import OrderStatus, PaymentStatus, Trigger, allowed_actions

PAYMENT_METHODS: Final = (
    "pm_ok",
    "pm_declined",
    "pm_fraud",
    "pm_error_then_ok",
    "pm_slow",
    "pm_timeout",
    "pm_duplicate",
)
"""What the simulated processor knows, each with its own outcome; the first is the default."""

LONGEST_NAME: Final = 200
LONGEST_ADDRESS: Final = 500
LONGEST_TRACKING: Final = 100
LONGEST_KEY: Final = 255
MOST_ORDERS_A_PAGE: Final = 100
MOST_FOLLOWED: Final = 500
"""Of how many orders one call may ask what is new."""

MOST_ENTRIES: Final = 10**9


class _LineSchema(Schema):
    product_id = fields.UUID(required=True)
    quantity = Whole(1, MOST_PIECES, required=True)
    product_name = Text(0, LONGEST_NAME, allow_none=True, metadata={"description": "Not used: the server knows it."})
    price = Money(allow_none=True, metadata={"description": "A guard: `price_changed` unless it is the current one."})


class _PlaceOrderSchema(Schema):
    items = fields.List(
        fields.Nested(_LineSchema), required=True, validate=validate.Length(1, MOST_LINES, error="Must be 1-100 lines.")
    )
    shipping_address = Text(1, LONGEST_ADDRESS, lines=True, allow_none=True, load_default=None)
    payment_method = fields.String(load_default=PAYMENT_METHODS[0], validate=validate.OneOf(PAYMENT_METHODS))

    @post_load
    def merge(self, loaded: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Put a Wish under ``wish``: the lines of one product are one line."""
        lines = tuple(_merged(loaded.pop("items")))
        broken = {line.position: {"quantity": [_TOO_MANY]} for line in lines if line.quantity > MOST_PIECES}
        if broken:
            raise ValidationError({"items": broken})
        return {"wish": Wish(lines, **loaded)}


_TOO_MANY: Final = f"Must be at most {MOST_PIECES} over all lines of the product."


def _merged(lines: Iterable[Mapping[str, Any]]) -> Iterable[WishedLine]:
    merged: dict[UUID, WishedLine] = {}
    for position, line in enumerate(lines):
        before = merged.get(line["product_id"], WishedLine(line["product_id"], 0, position=position))
        price = line.get("price")
        merged[before.product_id] = WishedLine(
            before.product_id,
            before.quantity + line["quantity"],
            before.guards | ({price} if price is not None else frozenset()),
            before.position,
        )
    return merged.values()


class _CancelSchema(Schema):
    reason = Text(0, LONGEST_NOTE, lines=True, allow_none=True, load_default="")


class _ShipSchema(Schema):
    tracking = Text(1, LONGEST_TRACKING, allow_none=True, load_default=None)


class _ListSchema(Schema):
    limit = fields.Integer(load_default=20, validate=validate.Range(1, MOST_ORDERS_A_PAGE))
    cursor = fields.String(load_default=None, metadata=CURSOR_SAYS)
    status = fields.Enum(OrderStatus, by_value=True, load_default=None)
    begin = Instant(data_key="from", load_default=None)
    end = Instant(data_key="to", load_default=None)


class _ItemSchema(Schema):
    product_id = fields.UUID()
    product_name = fields.String()
    quantity = fields.Integer()
    price = Money(attribute="unit_price_cents")


class _SummarySchema(Schema):
    id = fields.UUID()
    user_id = fields.UUID()
    status = fields.String(validate=validate.OneOf(list(OrderStatus)))
    total_amount = Money(attribute="total_cents")
    currency = fields.String()
    created_at = Instant()
    item_count = fields.Integer()


class _OrderSchema(Schema):
    id = fields.UUID()
    user_id = fields.UUID()
    status = fields.String(validate=validate.OneOf(list(OrderStatus)))
    status_reason = fields.String(allow_none=True, validate=validate.OneOf(list(CancelReason)))
    payment_status = fields.String(validate=validate.OneOf(list(PaymentStatus)))
    total_amount = Money(attribute="total_cents")
    currency = fields.String()
    shipping_address = fields.String(allow_none=True)
    created_at = Instant()
    updated_at = Instant()
    items = fields.List(fields.Nested(_ItemSchema))
    allowed_actions = fields.List(
        fields.String(validate=validate.OneOf([Trigger.CANCEL, Trigger.SHIP, Trigger.DELIVER])),
        metadata={"description": "What this caller may do with it now."},
    )


class _ProductSchema(Schema):
    """A product as inventory describes it over RPC: in the saga's words, not the API's."""

    product_id = fields.UUID(data_key="product_id", required=True)
    name = fields.String(data_key="name", required=True)
    unit_price_cents = fields.Integer(data_key="unit_price_cents", required=True)
    currency = fields.String(data_key="currency", required=True)
    active = fields.Boolean(data_key="active", required=True)
    product_version = fields.Integer(data_key="product_version", required=True)

    @post_load
    def build(self, loaded: dict[str, Any], **_: Any) -> Product:
        """The product as a row that is in no database yet."""
        return Product(**loaded)


class _EntrySchema(Schema):
    """An entry of an order's history; its actor is a role or a service, never who exactly."""

    number = fields.Integer()
    at = Instant()
    event = fields.String()
    from_status = fields.String(allow_none=True, validate=validate.OneOf(list(OrderStatus)))
    to_status = fields.String(validate=validate.OneOf(list(OrderStatus)))
    actor = fields.String()
    note = fields.String()


class _FollowSchema(Schema):
    after = fields.Dict(
        keys=fields.UUID(),
        values=Whole(0, MOST_ENTRIES),
        required=True,
        validate=validate.Length(max=MOST_FOLLOWED),
    )


PLACE_ORDER: Final = _PlaceOrderSchema()
CANCEL: Final = _CancelSchema()
SHIP: Final = _ShipSchema()
LIST_ORDERS: Final = _ListSchema()
ORDER_VIEW: Final = _OrderSchema()
ORDER_SUMMARY: Final = _SummarySchema()
ENTRY: Final = _EntrySchema()
FOLLOW: Final = _FollowSchema()
INSTANT: Final = Instant()
PRODUCTS: Final = _ProductSchema(many=True, unknown="exclude")


def read_key(key: str | None) -> str | None:
    """The idempotency key, if one was sent; raises InvalidInput unless it is 1-255 printable characters."""
    if key is not None and not (1 <= len(key) <= LONGEST_KEY and key.isprintable()):
        raise invalid([("/idempotencyKey", f"Must be 1-{LONGEST_KEY} printable characters.")])
    return key


def view_for(caller: Principal, order: Order | Mapping[str, Any]) -> dict[str, Any]:
    """The order as the caller sees it: what everybody sees, and what this caller may do with it."""
    view = dict(order) if isinstance(order, Mapping) else ORDER_VIEW.show(order)
    actions = allowed_actions(OrderStatus(view["status"]), is_staff=caller.is_staff)
    return {**view, "allowedActions": [action.value for action in actions]}


def news_view(entries: Iterable[HistoryEntry], *, over: bool) -> dict[str, Any]:
    """What is new about an order, and whether nothing will be any more."""
    return {"entries": ENTRY.show_all(entries), "over": over}


def journey_view(
    order: Order, history: Sequence[HistoryEntry], messages: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The order's way so far and what it waits for; ``messages`` are its steps in the inbox and the outbox.

    What an event has changed stands with the event; what a person or a timer did is a step of its own.
    """
    changes = {str(entry.event_id): _change(entry) for entry in history if entry.event_id}
    steps = [{**step, **changes.get(step["eventId"], {})} for step in messages]
    steps += STEP.show_all(_own_step(entry) for entry in history if entry.event_id is None)
    unsent = [step["event"] for step in steps if step["outcome"] == "waiting"]
    return {
        "orderId": str(order.id),
        "status": order.status.value,
        "deadline": INSTANT.serialize("deadline_at", order) if order.status == OrderStatus.PENDING else None,
        "waitingFor": f"the broker to take {', '.join(unsent)}" if unsent else order.waits_for,
        "steps": sorted(steps, key=lambda step: datetime.fromisoformat(step["at"])),
    }


def _change(entry: HistoryEntry) -> dict[str, str]:
    moved = f"{entry.from_status} -> {entry.to_status}" if entry.from_status else str(entry.to_status)
    return {"outcome": "noted" if entry.from_status == entry.to_status else moved, "note": entry.note}


def _own_step(entry: HistoryEntry) -> dict[str, Any]:
    return {"at": entry.at, "service": "orders", "event": f"{entry.event} by {entry.actor}", **_change(entry)}
