from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from events import CancelReason, OrderCancelledEvent, OrderConfirmedEvent, VoidOutcome
from services.chassis.errors import Alarm, Conflict, InvalidInput
from services.orders.models import Order
from services.orders.pricing import WishedLine
from services.orders.transitions import OrderStatus, PaymentStatus
from tests.support.fakes import a_caller
from tests.unit.orders.builders import (
    LATER,
    NOW,
    STAFF,
    a_basket,
    a_line,
    a_product,
    a_wish,
    an_order,
    entries,
    inventory_released,
    payment_failed,
    payment_processed,
    payment_refunded,
    payment_voided,
    reservation_failed,
)


class TestPlacing:
    """An order that was just placed."""

    def test_tells_of_its_lines_and_their_total(self) -> None:
        """The event carries everything inventory and payments need."""
        owner, basket = a_caller(), a_basket(a_line(2, 1250), a_line(1, 99))

        order, created = Order.place(owner, basket, NOW)

        assert (order.status, order.payment_status, order.total_cents) == ("Pending", "Pending", 2599)
        assert created.items == list(basket.lines)
        assert (created.order_id, created.user_id, created.total_cents) == (order.id, owner.user_id, 2599)
        assert [item.position for item in order.items] == [1, 2]

    def test_begins_its_history(self) -> None:
        """The first entry has no status before it."""
        order = an_order()

        (entry,) = entries(order)

        assert (entry.number, entry.event, entry.from_status, entry.to_status) == (1, "place", None, "Pending")
        assert (entry.actor, entry.actor_id) == ("customer", order.user_id)


class TestPayment:
    """What the news about the money does."""

    def test_confirms_with_the_lines_as_they_were_placed(self) -> None:
        """Paid in full."""
        order = an_order()

        (confirmed,) = order.payment_processed(payment_processed(order), LATER)

        assert isinstance(confirmed, OrderConfirmedEvent)
        assert confirmed.items == [item.line for item in order.items]
        assert (order.payment_status, order.updated_at) == ("Completed", LATER)

    @pytest.mark.parametrize("other", [{"amount_cents": 1}, {"currency": "USD"}])
    def test_raises_the_alarm_for_another_sum(self, other: dict[str, object]) -> None:
        """Neither more nor less nor other money confirms an order."""
        order = an_order()

        with pytest.raises(Alarm):
            order.payment_processed(payment_processed(order, **other), LATER)

        assert (order.status, order.payment_status) == ("Pending", "Pending")

    def test_is_noted_when_the_order_is_cancelled_already(self) -> None:
        """The order stays Cancelled; payments gives the money back."""
        order = an_order(OrderStatus.CANCELLED)

        assert order.payment_processed(payment_processed(order), LATER) == ()

        assert (order.status, order.payment_status) == ("Cancelled", "Completed")
        assert entries(order)[-1].event == "PaymentProcessedEvent"

    def test_changes_nothing_after_the_refund(self) -> None:
        """A Processed that comes after Refunded is late, not new."""
        order = an_order(OrderStatus.CANCELLED)
        order.payment_settled(payment_refunded(order), LATER)

        assert order.payment_processed(payment_processed(order), LATER) == ()

        assert order.payment_status == "Refunded"

    def test_failing_cancels_with_the_reason(self) -> None:
        """The note says what the processor said."""
        order = an_order()

        (cancelled,) = order.payment_failed(payment_failed(order, "fraud" * 200), LATER)

        assert isinstance(cancelled, OrderCancelledEvent)
        assert (cancelled.reason, cancelled.cancelled_from) == (CancelReason.PAYMENT_FAILED, "Pending")
        assert len(cancelled.note) == 500
        assert (order.status_reason, order.payment_status) == ("payment_failed", "Failed")

    def test_failing_is_noted_when_the_order_is_cancelled_already(self) -> None:
        """No second cancellation."""
        order = an_order(OrderStatus.CANCELLED)

        assert order.payment_failed(payment_failed(order), LATER) == ()

        assert order.payment_status == "Failed"

    def test_is_not_touched_by_a_short_stock(self) -> None:
        """Nobody charged; payments will say so."""
        order = an_order()

        order.reservation_failed(reservation_failed(order), LATER)

        assert (order.status_reason, order.payment_status) == ("out_of_stock", "Pending")


class TestCancelling:
    """Who cancels, and why."""

    def test_by_its_owner_is_the_customers(self) -> None:
        """Also when the owner is staff."""
        owner = a_caller("staff")
        order = an_order(owner=owner)

        (cancelled,) = order.cancel(owner, LATER, "changed my mind")

        assert isinstance(cancelled, OrderCancelledEvent)
        assert (cancelled.reason, cancelled.note) == (CancelReason.CUSTOMER, "changed my mind")
        assert (entries(order)[-1].actor, entries(order)[-1].note) == ("staff", "changed my mind")

    def test_by_somebody_else_is_the_staffs(self) -> None:
        """A Confirmed order remembers where it was cancelled from."""
        order = an_order(OrderStatus.CONFIRMED)

        (cancelled,) = order.cancel(STAFF, LATER)

        assert isinstance(cancelled, OrderCancelledEvent)
        assert (cancelled.reason, cancelled.cancelled_from) == (CancelReason.STAFF, "Confirmed")


class TestSettling:
    """What cancelling an order owes, and when it is given back."""

    @pytest.mark.parametrize(
        ("outcome", "status"),
        [
            (VoidOutcome.NEVER_CHARGED, PaymentStatus.VOIDED),
            (VoidOutcome.DECLINED, PaymentStatus.FAILED),
            (VoidOutcome.TIMEOUT, PaymentStatus.FAILED),
        ],
    )
    def test_without_money_says_why_there_is_none(self, outcome: VoidOutcome, status: PaymentStatus) -> None:
        """Voided or Failed."""
        order = an_order(OrderStatus.CANCELLED)

        order.payment_settled(payment_voided(order, outcome), LATER)

        assert (order.payment_settled_at, order.payment_status) == (LATER, status)

    def test_is_through_when_stock_and_money_are_back(self) -> None:
        """Both, in any order."""
        order = an_order(OrderStatus.CONFIRMED)
        order.cancel(STAFF, LATER)

        order.payment_settled(payment_refunded(order), LATER)
        assert not order.settled
        assert order.waits_for is not None
        assert "InventoryReleasedEvent" in order.waits_for
        order.inventory_released(inventory_released(order), LATER)

        assert order.settled
        assert order.waits_for is None
        assert order.payment_status == "Refunded"

    def test_is_asked_for_again_under_a_new_id(self) -> None:
        """The same cancellation, told again, at growing distances."""
        order = an_order()
        (first,) = order.cancel(STAFF, LATER, "no")

        (second,) = order.remind(LATER, timedelta(minutes=5))
        (third,) = order.remind(LATER, timedelta(minutes=5))

        assert len({first.event_id, second.event_id, third.event_id}) == 3
        assert replace(second, event_id=first.event_id) == first
        assert order.settlement_attempts == 2

    def test_is_not_asked_for_when_it_is_done(self) -> None:
        """Nobody is reminded of what they did."""
        order = an_order(OrderStatus.CANCELLED)
        order.payment_settled(payment_voided(order), LATER)
        order.inventory_released(inventory_released(order), LATER)

        assert order.remind(LATER, timedelta(minutes=5)) == ()


class TestPricing:
    """What a wish comes to."""

    def test_takes_name_and_price_from_the_catalogue(self) -> None:
        """Whatever the client wrote."""
        kettle = a_product(name="Kettle", unit_price_cents=1999)
        wish = a_wish(WishedLine(kettle.product_id, 3, frozenset({1999})))

        basket = wish.priced({kettle.product_id: kettle})

        assert (basket.lines[0].product_name, basket.total_cents, basket.currency) == ("Kettle", 5997, "EUR")

    def test_refuses_a_price_that_is_no_longer_true(self) -> None:
        """And says the true one, for each product."""
        kettle, cup = a_product(unit_price_cents=1999), a_product(unit_price_cents=500)
        wish = a_wish(
            WishedLine(kettle.product_id, 1, frozenset({1999, 1899})), WishedLine(cup.product_id, 1, frozenset({500}))
        )

        with pytest.raises(Conflict) as refusal:
            wish.priced({kettle.product_id: kettle, cup.product_id: cup})

        assert refusal.value.code == "price_changed"
        (current,) = refusal.value.extra["current"]
        assert (current["productId"], str(current["price"])) == (str(kettle.product_id), "19.99")

    def test_refuses_every_product_that_cannot_be_bought(self) -> None:
        """Unknown and inactive ones alike, each at its line."""
        kettle, relic = a_product(), a_product(active=False)
        wish = a_wish(
            WishedLine(kettle.product_id, 1, position=0),
            WishedLine(relic.product_id, 1, position=1),
            WishedLine(uuid4(), 1, position=4),
        )

        with pytest.raises(InvalidInput) as refusal:
            wish.priced({kettle.product_id: kettle, relic.product_id: relic})

        assert refusal.value.code == "product_unavailable"
        pointers = [error["pointer"] for error in refusal.value.extra["errors"]]
        assert pointers == ["/items/1/productId", "/items/4/productId"]

    def test_refuses_a_sum_beyond_all_measure(self) -> None:
        """The database could not hold it."""
        palace = a_product(unit_price_cents=10**15)

        with pytest.raises(InvalidInput, match="total_too_large"):
            a_wish(WishedLine(palace.product_id, 2)).priced({palace.product_id: palace})
