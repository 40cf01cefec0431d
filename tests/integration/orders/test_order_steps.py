from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from threading import Thread
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from events import Event, OrderEvent
from services.chassis.errors import Alarm, NotFound
from services.chassis.inbox import INBOX
from services.orders.models import Order
from services.orders.repository import OrderRepository
from services.orders.saga_steps import SagaSteps, Step
from services.orders.transitions import TRANSITIONS, Cell, OrderStatus, Trigger, sources
from tests.integration.orders.stage import Stage
from tests.support.until import eventually
from tests.unit.orders.builders import EVENTS, LATER, an_order, payment_processed

HANDLERS = {
    Trigger.PAYMENT_PROCESSED: "on_payment_processed",
    Trigger.PAYMENT_FAILED: "on_payment_failed",
    Trigger.RESERVATION_FAILED: "on_reservation_failed",
    Trigger.INVENTORY_RELEASED: "on_inventory_released",
    Trigger.PAYMENT_VOIDED: "on_payment_voided",
    Trigger.PAYMENT_REFUNDED: "on_payment_refunded",
}
METHODS: dict[Trigger, tuple[Callable[..., Step], Callable[..., tuple[Event, ...]]]] = {
    Trigger.PAYMENT_PROCESSED: (SagaSteps.payment_processed, Order.payment_processed),
    Trigger.PAYMENT_FAILED: (SagaSteps.payment_failed, Order.payment_failed),
    Trigger.RESERVATION_FAILED: (SagaSteps.reservation_failed, Order.reservation_failed),
    Trigger.INVENTORY_RELEASED: (SagaSteps.inventory_released, Order.inventory_released),
    Trigger.PAYMENT_VOIDED: (SagaSteps.payment_settled, Order.payment_settled),
    Trigger.PAYMENT_REFUNDED: (SagaSteps.payment_settled, Order.payment_settled),
}
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
CELLS = [(trigger, status) for trigger in METHODS for status in OrderStatus]
QUIET = [(trigger, status) for trigger, status in CELLS if TRANSITIONS[trigger][status] is not Cell.ALARM]
LOUD = [cell for cell in CELLS if cell not in QUIET]


def told(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """The events without what makes each the only one."""
    return [{**asdict(event), "event_id": None} for event in events]


def row_of(session: Session, order: Order) -> dict[str, Any]:
    """Everything the database knows of the order, its history included."""
    session.expire_all()
    history = [
        {key: value for key, value in vars(entry).items() if not key.startswith("_")}
        for entry in OrderRepository(session).list_history(order.id)
    ]
    columns = {column.key: getattr(order, column.key) for column in inspect(Order).column_attrs}
    return {**columns, "history": history}


class TestSagaSteps:
    """The one-statement steps, compared with the model whose rules they speak in SQL."""

    @pytest.mark.parametrize(("trigger", "status"), QUIET)
    def test_do_exactly_what_the_model_does(self, session: Session, trigger: Trigger, status: OrderStatus) -> None:
        """Same row, same history, same events."""
        order = an_order(status)
        OrderRepository(session).add(order, 900)
        session.flush()
        event = EVENTS[trigger](order)
        step, method = METHODS[trigger]
        savepoint = session.begin_nested()
        expected_events = method(OrderRepository(session).get_for_update(order.id), event, LATER)
        session.flush()
        expected_row = row_of(session, order)
        savepoint.rollback()
        session.expire_all()

        result = step(SagaSteps(session), event, LATER)

        assert told(result.events) == told(expected_events)
        assert row_of(session, order) == expected_row
        assert (result.order_id, result.placed_at) == (order.id, order.created_at)

    @pytest.mark.parametrize(("trigger", "status"), LOUD)
    def test_raise_the_alarm_where_the_table_does(
        self, session: Session, trigger: Trigger, status: OrderStatus
    ) -> None:
        """And change nothing."""
        order = an_order(status)
        OrderRepository(session).add(order, 900)
        session.flush()
        before = row_of(session, order)

        with pytest.raises(Alarm):
            METHODS[trigger][0](SagaSteps(session), EVENTS[trigger](order), LATER)

        assert row_of(session, order) == before

    @pytest.mark.parametrize("trigger", METHODS)
    def test_take_the_statements_way_where_the_order_moves(self, session: Session, trigger: Trigger) -> None:
        """The model is asked only for what is rare."""
        order = an_order(sources(trigger)[0])
        OrderRepository(session).add(order, 900)
        session.flush()

        class Steps(SagaSteps):
            """Cannot ask."""

            def _ask_model(self, *_: object) -> Step:
                raise AssertionError("the model was asked")

        assert METHODS[trigger][0](Steps(session), EVENTS[trigger](order), LATER).changed

    @pytest.mark.parametrize("other", [{"amount_cents": 1}, {"currency": "USD"}])
    def test_confirm_nothing_for_another_sum(self, session: Session, other: dict[str, Any]) -> None:
        """An alarm, and the order waits for its deadline."""
        order = an_order()
        OrderRepository(session).add(order, 900)
        session.flush()

        with pytest.raises(Alarm, match="amount"):
            SagaSteps(session).payment_processed(payment_processed(order, **other), LATER)

    @pytest.mark.parametrize("trigger", METHODS)
    def test_know_no_order_that_is_not_there(self, session: Session, trigger: Trigger) -> None:
        """The chassis tries again, then gives the event up."""
        with pytest.raises(NotFound):
            METHODS[trigger][0](SagaSteps(session), EVENTS[trigger](an_order()), LATER)

    def test_in_one_transaction_see_each_other(self, session: Session) -> None:
        """Several waiting events may share one: the model's changes and the statements' are in order."""
        order = an_order()
        OrderRepository(session).add(order, 900)
        session.flush()
        steps = SagaSteps(session)

        steps.payment_failed(EVENTS[Trigger.PAYMENT_FAILED](order), LATER)  # type: ignore[arg-type] # by trigger
        steps.payment_processed(payment_processed(order), LATER)
        steps.payment_settled(EVENTS[Trigger.PAYMENT_VOIDED](order), LATER)  # type: ignore[arg-type] # by trigger
        steps.inventory_released(EVENTS[Trigger.INVENTORY_RELEASED](order), LATER)  # type: ignore[arg-type] # by trigger

        assert steps.get(order.id).settled
        assert steps.get(order.id).version == 4

    def test_wait_for_whoever_holds_the_order(self, stage: Stage) -> None:
        """A payment that arrives while a cancellation commits finds the order Cancelled and only notes the money."""
        order = stage.keep(an_order())
        with stage.sessions() as holder:
            OrderRepository(holder).get_for_update(order.id).expire(LATER)
            holder.flush()
            payment = Thread(target=stage.deliver, args=("on_payment_processed", payment_processed(order)))
            payment.start()
            payment.join(0.3)
            assert payment.is_alive()
            holder.commit()
        payment.join(5)

        found = stage.load(order.id)
        assert (found.status, found.payment_status, found.version) == ("Cancelled", "Completed", 3)

    def test_are_waited_for_by_a_person(self, stage: Stage) -> None:
        """Who cancels while a payment is being noted cancels a Confirmed order, not the Pending one that it was."""
        order = stage.keep(an_order())

        with ThreadPoolExecutor(1) as pool:
            with stage.sessions.begin() as session:
                SagaSteps(session).payment_processed(payment_processed(order), LATER)
                cancelling = pool.submit(stage.serve().cancel_order, str(order.id), {})
                eventually(lambda: stage.rows(WAITING))
            cancelling.result()

        found = stage.load(order.id)
        assert (found.status, found.cancelled_from, found.payment_status) == ("Cancelled", "Confirmed", "Completed")


class TestHandlers:
    """The event handlers, with the real inbox and outbox."""

    @pytest.mark.parametrize("trigger", METHODS)
    def test_delivered_twice_change_once(self, stage: Stage, trigger: Trigger) -> None:
        """The second delivery finds the first in the inbox."""
        order = stage.keep(an_order(sources(trigger)[0]))
        event = EVENTS[trigger](order)

        stage.deliver(HANDLERS[trigger], event)
        first, published = stage.load(order.id), stage.published(order.id)
        stage.deliver(HANDLERS[trigger], event, attempt=2)

        assert stage.load(order.id).version == first.version == order.version + 1
        assert stage.published(order.id) == published
        assert len(published) == isinstance(TRANSITIONS[trigger][order.status], OrderStatus)

    @pytest.mark.parametrize("trigger", METHODS)
    def test_told_again_under_another_id_change_once(self, stage: Stage, trigger: Trigger) -> None:
        """What the inbox cannot know, the table does."""
        order = stage.keep(an_order(sources(trigger)[0]))

        stage.deliver(HANDLERS[trigger], EVENTS[trigger](order))
        first, published = stage.load(order.id), stage.published(order.id)
        stage.deliver(HANDLERS[trigger], EVENTS[trigger](order))

        assert stage.load(order.id).version == first.version
        assert stage.published(order.id) == published
        with stage.sessions() as session:
            outcomes = session.scalars(select(INBOX.c.outcome).order_by(INBOX.c.handled_at)).all()
        assert outcomes == ["done", "nothing to do"]

    @pytest.mark.parametrize(("trigger", "status"), LOUD)
    def test_that_raise_leave_nothing_behind(self, stage: Stage, trigger: Trigger, status: OrderStatus) -> None:
        """No inbox row, so that a replay from the dead letters is a first delivery."""
        order = stage.keep(an_order(status))

        with pytest.raises(Alarm):
            stage.deliver(HANDLERS[trigger], EVENTS[trigger](order))

        with stage.sessions() as session:
            assert session.execute(select(INBOX)).all() == []
        assert stage.load(order.id).version == order.version

    def test_mark_their_events_with_what_caused_them(self, stage: Stage) -> None:
        """Correlation and causation."""
        order = stage.keep(an_order())
        event = payment_processed(order, correlation_id="the-first-request")

        stage.deliver("on_payment_processed", event)

        (confirmed,) = stage.published(order.id)
        assert confirmed["correlation_id"] == "the-first-request"
        assert confirmed["causation_id"] == str(event.event_id)
        assert confirmed["items"] == [
            {
                "product_id": str(item.product_id),
                "product_name": item.product_name,
                "quantity": item.quantity,
                "unit_price_cents": item.unit_price_cents,
            }
            for item in order.items
        ]

    def test_forget_the_copy_of_the_order(self, stage: Stage) -> None:
        """After the commit, so that nobody reads what was."""
        order = stage.keep(an_order())
        assert stage.serve().get_order(str(order.id))["status"] == "Pending"

        stage.deliver("on_payment_processed", payment_processed(order))

        assert stage.serve().get_order(str(order.id))["status"] == "Confirmed"

    def test_of_an_unknown_order_raise(self, stage: Stage) -> None:
        """It may come later, or never."""
        unknown: OrderEvent = payment_processed(an_order(), order_id=uuid4())

        with pytest.raises(NotFound):
            stage.deliver("on_payment_processed", unknown)
