"""The steps that events take an order through, each as one statement.

Every order passes here, so a step is one round trip: lock the row if it stands where the table of transitions expects
it, change it, enter that into its history, give back what the event needs. A step that finds no such row has changed
nothing, and the model is asked, which knows whether that is a repeat, an alarm or something else to note.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, Self, TypeVar, cast
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Row,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    case,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from events import (
    LONGEST_NOTE,
    CancelReason,
    Event,
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderEvent,
    OrderLine,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
)
from services.orders.models import Order, settled_as
from services.orders.repository import OrderRepository
from services.orders.tables import Cause, HistoryEntry, OrderItem
from services.orders.transitions import PaymentStatus, Trigger, may_become, sources, target

Told = TypeVar("Told", bound=OrderEvent)

_ORDERS: Final = cast("Table", Order.__table__)
_ITEMS: Final = cast("Table", OrderItem.__table__)
_HISTORY: Final = cast("Table", HistoryEntry.__table__)


def _text(name: str) -> ColumnElement[Any]:
    return bindparam(name, type_=Text)


def _one_of(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    return column == any_(bindparam(name, type_=ARRAY(Text)))


def _step(changes: Mapping[str, Any], *conditions: ColumnElement[bool], with_lines: bool = False) -> Select[Any]:
    """The statement that locks, changes and enters; its only row, if any, is the order it has changed."""
    held = (
        select(_ORDERS.c.id, _ORDERS.c.status)
        .where(_ORDERS.c.id == bindparam("order_id"), _one_of(_ORDERS.c.status, "sources"), *conditions)
        .with_for_update()
        .cte("held")
    )
    moved = (
        update(_ORDERS)
        .where(_ORDERS.c.id == held.c.id)
        .values(version=_ORDERS.c.version + 1, updated_at=bindparam("now"), **changes)
        .returning(*_ORDERS.c, held.c.status.label("from_status"))
        .cte("moved")
    )
    entry = {
        _HISTORY.c.order_id: moved.c.id,
        _HISTORY.c.number: moved.c.version,
        _HISTORY.c.at: moved.c.updated_at,
        _HISTORY.c.event: _text("cause"),
        _HISTORY.c.event_id: bindparam("cause_id", type_=_HISTORY.c.event_id.type),
        _HISTORY.c.from_status: moved.c.from_status,
        _HISTORY.c.to_status: moved.c.status,
        _HISTORY.c.actor: _text("by"),
        _HISTORY.c.note: _text("remark"),
    }
    entered = insert(_HISTORY).from_select(list(entry), select(*entry.values())).cte("entered")
    return select(moved, *([_lines_of(moved.c.id)] if with_lines else [])).add_cte(entered)


def _lines_of(order_id: ColumnElement[Any]) -> ColumnElement[Any]:
    columns = (_ITEMS.c.product_id, _ITEMS.c.product_name, _ITEMS.c.quantity, _ITEMS.c.unit_price_cents)
    line = func.json_build_array(*columns)
    lines = select(func.json_agg(aggregate_order_by(line, _ITEMS.c.position))).where(_ITEMS.c.order_id == order_id)
    return lines.scalar_subquery().label("lines")


_PAYMENT: Final = case(
    (_one_of(_ORDERS.c.payment_status, "payment_before"), _text("payment_after")), else_=_ORDERS.c.payment_status
)

_CONFIRM: Final = _step(
    {"status": target(Trigger.PAYMENT_PROCESSED), "payment_status": PaymentStatus.COMPLETED},
    _ORDERS.c.total_cents == bindparam("paid_cents"),
    _ORDERS.c.currency == _text("paid_currency"),
    with_lines=True,
)
_CANCEL: Final = _step(
    {
        "status": target(Trigger.PAYMENT_FAILED),
        "payment_status": _PAYMENT,
        "status_reason": _text("reason"),
        "cancelled_from": _ORDERS.c.status,
        "cancel_note": _text("remark"),
        "cancelled_at": func.now(),
    }
)
_SETTLE_STOCK: Final = _step({"stock_settled_at": bindparam("now")}, _ORDERS.c.stock_settled_at.is_(None))
_SETTLE_PAYMENT: Final = _step(
    {"payment_settled_at": bindparam("now"), "payment_status": _PAYMENT}, _ORDERS.c.payment_settled_at.is_(None)
)


class Step(NamedTuple):
    """What became of an order: which it was, when it was placed, what follows, and whether anything changed at all."""

    order_id: UUID
    placed_at: datetime
    events: tuple[Event, ...] = ()
    changed: bool = True

    @classmethod
    def of(cls, order: Order, events: tuple[Event, ...]) -> Self:
        """What a method of the model has made of the order."""
        return cls(order.id, order.created_at, events)


class SagaSteps(OrderRepository):
    """What each event makes of its order, as the model's method of the same name says.

    Every method raises NotFound for an order nobody knows and Alarm where the table says so.
    """

    def payment_processed(self, event: PaymentProcessedEvent, now: datetime) -> Step:
        """Confirm a Pending order that is paid in full."""
        row = self._take(_CONFIRM, event, now, paid_cents=event.amount_cents, paid_currency=event.currency)
        if row is None:
            return self._ask_model(event, now, Order.payment_processed)
        lines = [_line(*line) for line in row.lines]
        confirmed = OrderConfirmedEvent(
            **_about(row, now), total_cents=row.total_cents, currency=row.currency, items=lines
        )
        return Step(row.id, row.created_at, (confirmed,))

    def payment_failed(self, event: PaymentFailedEvent, now: datetime) -> Step:
        """Cancel a Pending order that could not be paid."""
        failed = {"reason": CancelReason.PAYMENT_FAILED, "remark": event.reason[:LONGEST_NOTE]}
        row = self._take(_CANCEL, event, now, **failed, **_payment(PaymentStatus.FAILED))
        return _cancelled(row, now) if row else self._ask_model(event, now, Order.payment_failed)

    def reservation_failed(self, event: InventoryReservationFailedEvent, now: datetime) -> Step:
        """Cancel a Pending order that the stock could not serve."""
        failed = {"reason": CancelReason.OUT_OF_STOCK, "remark": event.reason[:LONGEST_NOTE]}
        row = self._take(_CANCEL, event, now, **failed, **_payment(None))
        return _cancelled(row, now) if row else self._ask_model(event, now, Order.reservation_failed)

    def inventory_released(self, event: InventoryReleasedEvent, now: datetime) -> Step:
        """Note that a Cancelled order holds no stock any more."""
        row = self._take(_SETTLE_STOCK, event, now, remark=event.outcome)
        return Step(row.id, row.created_at) if row else self._ask_model(event, now, Order.inventory_released)

    def payment_settled(self, event: PaymentVoidedEvent | PaymentRefundedEvent, now: datetime) -> Step:
        """Note that a Cancelled order's money is where it belongs."""
        payment = settled_as(event)
        row = self._take(_SETTLE_PAYMENT, event, now, remark=payment, **_payment(payment))
        return Step(row.id, row.created_at) if row else self._ask_model(event, now, Order.payment_settled)

    def _take(self, step: Select[Any], event: OrderEvent, now: datetime, **values: Any) -> Row[Any] | None:
        """The order as the step has left it, or None where it does not stand where the step expects it."""
        cause = Cause.event(event, now)
        expected = {"order_id": event.order_id, "sources": sources(Trigger(cause.what))}
        entry = {"now": now, "cause": cause.what, "cause_id": cause.event_id, "by": cause.actor, "remark": ""}
        return self.session.execute(step, {**expected, **entry, **values}).one_or_none()

    def _ask_model(
        self, event: Told, now: datetime, method: Callable[[Order, Told, datetime], tuple[Event, ...]]
    ) -> Step:
        order = self.get_for_update(event.order_id)
        before = order.version
        events = method(order, event, now)
        self.session.flush()  # the next step of this transaction reads the row, not the object
        return Step(order.id, order.created_at, events, changed=order.version != before)


def _payment(after: PaymentStatus | None) -> dict[str, Any]:
    return {"payment_after": after, "payment_before": may_become(after) if after else []}


def _cancelled(row: Row[Any], now: datetime) -> Step:
    cancelled = OrderCancelledEvent(
        **_about(row, now), reason=row.status_reason, note=row.cancel_note, cancelled_from=row.cancelled_from
    )
    return Step(row.id, row.created_at, (cancelled,))


def _about(row: Row[Any], now: datetime) -> dict[str, Any]:
    return {"order_id": row.id, "user_id": row.user_id, "occurred_at": now}


def _line(product_id: str, product_name: str, quantity: int, unit_price_cents: int) -> OrderLine:
    return OrderLine(
        product_id=UUID(product_id), product_name=product_name, quantity=quantity, unit_price_cents=unit_price_cents
    )
