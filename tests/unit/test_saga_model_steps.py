"""The steps of the model of ``docs/saga-model`` are those of the classes that the services call."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from uuid import uuid4

import pytest

from events import CancelReason, Event, OrderCancelledEvent, PaymentVoidedEvent, VoidOutcome
from saga_model.rules import PRODUCT
from saga_model.services import Reaction, Services
from saga_model.state import Message, Order, Payment
from services.chassis.errors import Alarm, Conflict
from services.notifications.models import Channel
from services.orders import models as orders
from services.orders.transitions import OrderStatus, Trigger
from services.payments import models as payments
from services.payments.transitions import TIMEOUT, PaymentStatus
from tests.unit.orders.builders import LATER, an_order, payment_voided, pull

Step = tuple[Trigger, VoidOutcome | None]

STEPS: Final[list[Step]] = [
    *((trigger, None) for trigger in Trigger if trigger is not Trigger.PAYMENT_VOIDED),
    *((Trigger.PAYMENT_VOIDED, outcome) for outcome in VoidOutcome),
]
SERVICES: Final = Services(PRODUCT, tuple(Channel))


def take(step: Step, order: orders.Order) -> tuple[Event, ...]:
    """What the product's order tells of the step; nothing when it refuses it."""
    trigger, outcome = step
    with suppress(Conflict):
        if outcome:
            return order.payment_settled(payment_voided(order, outcome), LATER)
        return pull(trigger, order)
    return ()


def ways() -> Iterator[tuple[Order, tuple[Step, ...]]]:
    """Every state that the model's order has after any steps, with the fewest of them."""
    found: dict[Order, tuple[Step, ...]] = {Order(OrderStatus.PENDING): ()}
    ahead = list(found)
    for state in ahead:  # grows meanwhile
        yield state, found[state]
        for step in STEPS:
            with suppress(Alarm):
                after = SERVICES.move(state, *step).stored
                if after not in found:
                    found[after] = (*found[state], step)
                    ahead.append(after)


WAYS: Final = list(ways())


def told_kinds(reaction: Reaction) -> list[type[Event]]:
    """Which events the model tells."""
    return [message.event for message in reaction.told]


def seen(order: orders.Order) -> Order:
    """The product's order as the model has it, to which staff are customers."""
    reason = CancelReason.CUSTOMER if order.status_reason == CancelReason.STAFF else order.status_reason
    settled = (order.stock_settled_at is not None, order.payment_settled_at is not None)
    return Order(order.status, reason, order.payment_status, *settled)


class TestAnOrder:
    """After any steps at all, also those that the saga never takes."""

    def test_has_more_states_than_statuses(self) -> None:
        """So that the comparison is worth something."""
        assert len(WAYS) > 20

    @pytest.mark.parametrize("step", STEPS, ids=str)
    def test_takes_each_step_as_the_product_does(self, step: Step) -> None:
        """The same state after it, the same event, the same alarm."""
        for state, way in WAYS:
            order = an_order()
            for earlier in way:
                take(earlier, order)
            assert seen(order) == state
            self.compare(state, step, order)

    def compare(self, state: Order, step: Step, order: orders.Order) -> None:
        """What both make of the step."""
        try:
            reaction = SERVICES.move(state, *step)
        except Alarm:
            with pytest.raises(Alarm):
                take(step, order)
            return
        assert [type(event) for event in take(step, order)] == told_kinds(reaction)
        assert seen(order) == reaction.stored


class TestAPayment:
    """Whose order is cancelled."""

    @pytest.mark.parametrize("reason", [TIMEOUT, "insufficient_funds"])
    @pytest.mark.parametrize("status", PaymentStatus)
    def test_is_cancelled_as_the_product_does(self, status: PaymentStatus, reason: str) -> None:
        """The same status after it, the same wish, the same events."""
        event = OrderCancelledEvent(
            order_id=uuid4(), user_id=uuid4(), occurred_at=LATER, reason=CancelReason.CUSTOMER, cancelled_from="Pending"
        )
        payment = payments.Payment(
            id=uuid4(),
            order_id=event.order_id,
            user_id=event.user_id,
            status=status,
            cancel_requested=False,
            amount_cents=1,
            currency="EUR",
            transaction_id="ch_1",
            refund_id="re_1",
            reason=reason,
        )

        told = payment.cancel(event, at=LATER)

        (reaction,) = SERVICES.payments(
            Payment(status, void_outcome=payment.void_outcome), Message(OrderCancelledEvent)
        )
        assert [type(each) for each in told] == told_kinds(reaction)
        assert [each.outcome for each in told if isinstance(each, PaymentVoidedEvent)] == [
            message.detail for message in reaction.told if message.event is PaymentVoidedEvent
        ]
        assert (payment.status, payment.cancel_requested) == reaction.stored[:2]
