from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.chassis import wire
from services.chassis.errors import InvalidInput
from services.orders.pricing import Wish
from services.orders.repository import Request, canonical_json
from services.orders.schemas import CANCEL, LIST_ORDERS, ORDER_VIEW, PLACE_ORDER, SHIP, journey_view, read_key, view_for
from services.orders.transitions import OrderStatus
from tests.support.fakes import a_caller
from tests.unit.orders.builders import LATER, a_line, an_order, entries

KETTLE = "7d9c1f3e-2f4b-4c60-9a77-0d4f1f6c5a01"


def a_body(*lines: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a client sends."""
    return {"items": list(lines) or [{"productId": KETTLE, "quantity": 1}], **changes}


def read(body: object) -> Wish:
    """The wish in a body."""
    wish: Wish = PLACE_ORDER.read(body)["wish"]
    return wish


def pointers(body: object) -> list[str]:
    """Where a body breaks a rule."""
    with pytest.raises(InvalidInput) as refusal:
        PLACE_ORDER.read(body)
    assert refusal.value.code == "validation_failed"
    return sorted(error["pointer"] for error in refusal.value.extra["errors"])


class TestPlaceOrder:
    """What POST /api/order takes."""

    def test_needs_nothing_but_products_and_quantities(self) -> None:
        """The rest has defaults."""
        wish = read(a_body())

        assert (wish.payment_method, wish.shipping_address) == ("pm_ok", None)
        assert (wish.lines[0].product_id, wish.lines[0].quantity) == (UUID(KETTLE), 1)

    def test_merges_the_lines_of_one_product(self) -> None:
        """Quantities add up, every expected price is kept, the first line gives the place."""
        other = str(uuid4())
        first = {"productId": KETTLE, "quantity": 2, "price": Decimal("12.50"), "productName": "Kettle"}
        wish = read(a_body(first, {"productId": other, "quantity": 1}, first | {"quantity": 3, "price": 13}))

        assert [(str(line.product_id), line.quantity) for line in wish.lines] == [(KETTLE, 5), (other, 1)]
        assert wish.lines[0].guards == {1250, 1300}
        assert wish.lines[0].position == 0

    @pytest.mark.parametrize("quantity", [0, -1, 10_001, "1", True, Decimal("1.5"), None])
    def test_refuses_a_quantity_that_is_none(self, quantity: object) -> None:
        """From 1 to 10 000, written as an integer."""
        assert pointers(a_body({"productId": KETTLE, "quantity": quantity})) == ["/items/0/quantity"]

    def test_refuses_too_many_after_merging(self) -> None:
        """The limit holds for the product, not for the line."""
        many = {"productId": KETTLE, "quantity": 6_000}

        assert pointers(a_body({"productId": str(uuid4()), "quantity": 1}, many, many)) == ["/items/1/quantity"]

    def test_lists_every_broken_rule(self) -> None:
        """At once, with its place."""
        body = {"items": [{"productId": "x", "price": -1}], "paymentMethod": "pm_gold", "coupon": "FREE"}

        assert pointers(body) == [
            "/coupon",
            "/items/0/price",
            "/items/0/productId",
            "/items/0/quantity",
            "/paymentMethod",
        ]

    @pytest.mark.parametrize("items", [[], [{"productId": KETTLE, "quantity": 1}] * 101, None, {}])
    def test_takes_1_to_100_lines(self, items: object) -> None:
        """No more, no less, and a list."""
        assert pointers({"items": items}) == ["/items"]

    @pytest.mark.parametrize("body", [None, [], "order", 1])
    def test_refuses_what_is_no_object(self, body: object) -> None:
        """JSON has other things."""
        assert pointers(body) == [""]

    @pytest.mark.parametrize("address", ["a\x00b", "\ud800", "x" * 501, ""])
    def test_refuses_an_address_nobody_can_keep(self, address: str) -> None:
        """NUL, lone surrogates, too long, empty."""
        assert pointers(a_body(shippingAddress=address)) == ["/shippingAddress"]

    def test_takes_an_address_of_several_lines(self) -> None:
        """As on an envelope."""
        assert read(a_body(shippingAddress="Jane Doe\nMain Street 1")).shipping_address == "Jane Doe\nMain Street 1"


class TestOtherInput:
    """What the other endpoints take."""

    def test_a_list_has_defaults(self) -> None:
        """Twenty, newest first, of any status."""
        assert LIST_ORDERS.read({}) == {"limit": 20, "cursor": None, "status": None, "begin": None, "end": None}

    def test_a_list_reads_the_query_of_a_url(self) -> None:
        """Everything is text there."""
        wanted = LIST_ORDERS.read({"limit": "5", "status": "Shipped", "from": "2026-01-01T00:00:00+01:00"})

        assert (wanted["limit"], wanted["status"]) == (5, OrderStatus.SHIPPED)
        assert wanted["begin"] == datetime(2025, 12, 31, 23, tzinfo=UTC)

    @pytest.mark.parametrize(
        "query", [{"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"status": "Lost"}, {"from": "x"}, {"who": "me"}]
    )
    def test_a_list_refuses_what_it_does_not_know(self, query: dict[str, str]) -> None:
        """Every wrong parameter is one."""
        with pytest.raises(InvalidInput):
            LIST_ORDERS.read(query)

    def test_cancelling_takes_a_reason_or_none(self) -> None:
        """Free text of 500 characters."""
        assert CANCEL.read({"reason": " too late "})["reason"] == "too late"
        assert not CANCEL.read({})["reason"]
        assert not CANCEL.read({"reason": None})["reason"]
        with pytest.raises(InvalidInput):
            CANCEL.read({"reason": "x" * 501})

    def test_shipping_takes_a_tracking_number_or_none(self) -> None:
        """Either is fine."""
        assert SHIP.read({"tracking": "T-1"}) == {"tracking": "T-1"}
        assert SHIP.read({}) == {"tracking": None}

    @pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "\x7f"])
    def test_a_key_is_printable_and_not_too_long(self, key: str) -> None:
        """1-255 printable characters."""
        with pytest.raises(InvalidInput):
            read_key(key)

    def test_a_key_may_be_missing(self) -> None:
        """Then every request is another one."""
        assert read_key(None) is None
        assert read_key("k" * 255) == "k" * 255


class TestOrderView:
    """What a client gets."""

    def test_has_the_shape_of_the_api(self) -> None:
        """Every member, money as numbers, times with Z."""
        owner = a_caller()
        order = an_order(OrderStatus.PENDING, owner, a_line(2, 1250, UUID(KETTLE)))

        view = wire.decode(wire.encode(view_for(owner, order)))

        assert view == {
            "id": str(order.id),
            "userId": str(owner.user_id),
            "status": "Pending",
            "statusReason": None,
            "paymentStatus": "Pending",
            "totalAmount": Decimal("25.00"),
            "currency": "EUR",
            "shippingAddress": "Main Street 1",
            "createdAt": "2026-01-02T03:04:05.678901Z",
            "updatedAt": "2026-01-02T03:04:05.678901Z",
            "items": [
                {"productId": KETTLE, "productName": "Kettle", "quantity": 2, "price": Decimal("12.50")},
            ],
            "allowedActions": ["cancel"],
        }

    def test_made_from_a_copy_says_what_this_caller_may_do(self) -> None:
        """The copy is for everybody, the actions are not."""
        copy = ORDER_VIEW.dump(an_order(OrderStatus.CONFIRMED))

        assert "allowedActions" not in copy
        assert view_for(a_caller("customer"), copy)["allowedActions"] == ["cancel"]
        assert view_for(a_caller("staff"), copy)["allowedActions"] == ["cancel", "ship"]

    def test_says_why_an_order_was_cancelled(self) -> None:
        """The saga's reason."""
        assert view_for(a_caller(), an_order(OrderStatus.CANCELLED))["statusReason"] == "expired"


class TestJourneyView:
    """How an order's way is told."""

    def test_tells_what_the_order_waits_for(self) -> None:
        """The deadline counts while it is Pending."""
        order = an_order()
        order.deadline_at = LATER

        journey = journey_view(order, entries(order), [])

        assert journey["deadline"] == "2026-01-02T03:05:05.678901Z"
        assert "PaymentProcessedEvent" in journey["waitingFor"]
        assert [(step["event"], step["outcome"]) for step in journey["steps"]] == [("place by customer", "Pending")]

    def test_shows_with_an_event_what_it_changed(self) -> None:
        """Event and change are one step."""
        order = an_order(OrderStatus.CONFIRMED)
        event_id = str(entries(order)[-1].event_id)
        message = {"at": "2026-01-02T03:04:06Z", "eventId": event_id, "event": "PaymentProcessedEvent"}

        journey = journey_view(order, entries(order), [message | {"outcome": "done", "note": "", "attempt": 2}])

        assert [step["outcome"] for step in journey["steps"]] == ["Pending", "Pending -> Confirmed"]
        assert journey["steps"][-1]["attempt"] == 2
        assert journey["deadline"] is None

    def test_names_the_broker_while_an_event_waits_for_it(self) -> None:
        """Nothing else can happen before."""
        order = an_order(OrderStatus.DELIVERED)
        message = {"at": "2026-01-02T03:04:06Z", "eventId": str(uuid4()), "event": "OrderDeliveredEvent"}

        journey = journey_view(order, [], [message | {"outcome": "waiting", "note": ""}])

        assert journey["waitingFor"] == "the broker to take OrderDeliveredEvent"


class TestRequest:
    """What makes two requests the same."""

    def test_is_the_same_however_it_is_written(self) -> None:
        """The order of members and the way numbers are written mean nothing."""
        one, other = (
            {"a": Decimal("12.50"), "b": [1, {"c": None}]},
            {"b": [Decimal("1.0"), {"c": None}], "a": Decimal("12.5")},
        )

        assert canonical_json(one) == canonical_json(other)
        assert canonical_json(one) != canonical_json({**other, "a": Decimal("12.51")})

    def test_has_a_lock_of_its_own(self) -> None:
        """A signed 64-bit number from user, method, path and key."""
        user_id = uuid4()
        first = Request(user_id, "POST", "/api/order", "k", {})

        assert -(2**63) <= first.lock < 2**63
        assert first.lock == Request(user_id, "POST", "/api/order", "k", {"other": "body"}).lock
        assert first.lock != Request(uuid4(), "POST", "/api/order", "k", {}).lock
