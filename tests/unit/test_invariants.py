from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from events import Event, OrderConfirmedEvent, OrderCreatedEvent, OrderLine, PaymentProcessedEvent
from services.chassis import wire
from services.chassis.topology import Subscription
from tests.support.invariants import Books, check_quiet

ORDER, USER, STRANGER = uuid4(), uuid4(), uuid4()
LINE = OrderLine(product_id=uuid4(), product_name="Thing", quantity=2, unit_price_cents=2_100)
ABOUT: Mapping[str, Any] = {"order_id": ORDER, "user_id": USER, "occurred_at": datetime(2026, 1, 2, tzinfo=UTC)}
PAID: Mapping[str, Any] = {"payment_id": uuid4(), "amount_cents": 4_200, "currency": "EUR", "transaction_id": "ch_1"}
CREATED = OrderCreatedEvent(**ABOUT, items=[LINE], total_cents=4_200, currency="EUR", payment_method="pm_ok")
CONFIRMED = OrderConfirmedEvent(**ABOUT, items=[LINE], total_cents=4_200, currency="EUR")
PROCESSED = PaymentProcessedEvent(**ABOUT, **PAID)
RESERVING = Subscription("orders", "OrderCreatedEvent", "inventory", "on_order_created")


def a_row(event: Event, *, published: bool = True) -> dict[str, Any]:
    """The event in an outbox."""
    payload = wire.encode(event).decode()
    known = {"event_id": event.event_id, "event_type": event.event_type, "order_id": ORDER}
    return {**known, "payload": payload, "published": published}


def an_order(**changes: Any) -> dict[UUID, dict[str, Any]]:
    """A confirmed order, or with these changes."""
    order = {"user_id": USER, "status": "Confirmed", "total_cents": 4_200, "overdue": False, "settled": False}
    return {ORDER: {**order, **changes}}


GOOD = Books(
    orders=an_order(),
    users=frozenset({USER}),
    reservations={ORDER: "reserved"},
    payments={ORDER: {"status": "captured", "amount_cents": 4_200}},
    charged={ORDER: 4_200},
    refunded={},
    published={"orders": [a_row(CREATED), a_row(CONFIRMED)], "payments": [a_row(PROCESSED)]},
    answered={"inventory": frozenset({(CREATED.event_id, "inventory.on_order_created")})},
    mails=frozenset({(ORDER, "confirmation"), (ORDER, "receipt")}),
)


class TestQuiet:
    """What must hold when nothing is under way."""

    def test_finds_nothing_in_good_books(self) -> None:
        """An order that is paid, and everything says so."""
        assert check_quiet(GOOD, [RESERVING], []) == []

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"orders": an_order(status="Pending", overdue=True)}, "is Pending past its deadline"),
            ({"orders": an_order(status="Shipped")}, "is Shipped, its reservation reserved"),
            ({"orders": an_order(status="Cancelled", settled=True)}, "is Cancelled"),
            ({"reservations": {}}, "its reservation None"),
            ({"charged": {ORDER: 4_100}}, "charged 4100"),
            ({"refunded": {ORDER: 4_200}}, "refunded 4200"),
            ({"payments": {ORDER: {"status": "captured", "amount_cents": 1}}}, "'amount_cents': 1"),
            ({"charged": {ORDER: 4_200, STRANGER: 1}}, f"charge without an order: {STRANGER}"),
            ({"users": frozenset()}, f"order of nobody: {USER}"),
            ({"published": {**GOOD.published, "orders": [a_row(CREATED)]}}, "without OrderConfirmedEvent"),
            ({"published": {**GOOD.published, "payments": [a_row(PROCESSED, published=False)]}}, "outbox still has"),
            ({"answered": {"inventory": frozenset()}}, "never reached inventory.on_order_created"),
            ({"mails": frozenset({(ORDER, "receipt")})}, "no mail confirmation"),
            ({"mails": GOOD.mails | {(ORDER, "refund")}}, "no event for the mail refund"),
        ],
    )
    def test_finds_what_does_not_fit(self, changes: dict[str, Any], complaint: str) -> None:
        """Each mistake is told with what it is about."""
        found = check_quiet(replace(GOOD, **changes), [RESERVING], [])

        assert any(complaint in each for each in found), found

    def test_takes_a_dead_letter_for_an_answer(self) -> None:
        """What was given up is known; a person sees to it."""
        books = replace(GOOD, answered={"inventory": frozenset()})

        assert check_quiet(books, [RESERVING], [(str(CREATED.event_id), "inventory.on_order_created")]) == []
