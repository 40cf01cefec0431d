"""Orders in every status and the events that reach them, for the tests of orders."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import inspect

from events import (
    Event,
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    OrderEvent,
    OrderLine,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
    ReleaseOutcome,
    VoidOutcome,
)
from services.chassis.auth import Principal
from services.orders.models import Order
from services.orders.pricing import Basket, Wish, WishedLine
from services.orders.tables import HistoryEntry, Product
from services.orders.transitions import OrderStatus, Trigger
from tests.support.fakes import a_caller

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


STAFF = a_caller("staff")


def a_line(quantity: int = 2, unit_price_cents: int = 1250, product_id: UUID | None = None) -> OrderLine:
    """Two kettles of 12.50."""
    return OrderLine(
        product_id=product_id or uuid4(),
        product_name="Kettle",
        quantity=quantity,
        unit_price_cents=unit_price_cents,
    )


def a_basket(*lines: OrderLine) -> Basket:
    """What an order is placed with."""
    return Basket(lines=lines or (a_line(),), currency="EUR", payment_method="pm_ok", shipping_address="Main Street 1")


def a_product(**changes: Any) -> Product:
    """A kettle in the catalogue copy."""
    values = {"name": "Kettle", "unit_price_cents": 1250, "currency": "EUR", "active": True, "product_version": 1}
    return Product(**{"product_id": uuid4(), **values, **changes})


def a_wish(*lines: WishedLine) -> Wish:
    """An order that is not priced yet."""
    return Wish(lines or (WishedLine(uuid4(), 2),), "pm_ok")


def an_order(status: OrderStatus = OrderStatus.PENDING, owner: Principal | None = None, *lines: OrderLine) -> Order:
    """An order that came to this status the usual way; Cancelled by its deadline."""
    order, _ = Order.place(owner or a_caller(), a_basket(*lines), NOW)
    if status == OrderStatus.CANCELLED:
        order.expire(NOW)
    elif status != OrderStatus.PENDING:
        order.payment_processed(payment_processed(order), NOW)
    if status in (OrderStatus.SHIPPED, OrderStatus.DELIVERED):
        order.ship(STAFF, NOW)
    if status == OrderStatus.DELIVERED:
        order.deliver(STAFF, NOW)
    return order


def entries(order: Order) -> list[HistoryEntry]:
    """What was entered into the order's history since it was loaded, or ever when it is new."""
    return list(inspect(order).attrs.history.history.added)


def about(order: Order) -> dict[str, Any]:
    """What every event about the order carries."""
    return {"order_id": order.id, "user_id": order.user_id, "occurred_at": LATER}


def payment_processed(order: Order, **changes: Any) -> PaymentProcessedEvent:
    """The order is paid in full."""
    paid = {"payment_id": uuid4(), "amount_cents": order.total_cents, "currency": "EUR", "transaction_id": "tx-1"}
    return PaymentProcessedEvent(**{**about(order), **paid, **changes})


def payment_failed(order: Order, reason: str = "insufficient_funds") -> PaymentFailedEvent:
    """The card was declined."""
    return PaymentFailedEvent(**about(order), payment_id=uuid4(), reason=reason)


def reservation_failed(order: Order) -> InventoryReservationFailedEvent:
    """The stock is short."""
    return InventoryReservationFailedEvent(**about(order), reason="out_of_stock", shortages=[])


def inventory_released(order: Order) -> InventoryReleasedEvent:
    """The stock was given back."""
    return InventoryReleasedEvent(**about(order), outcome=ReleaseOutcome.RELEASED)


def payment_voided(order: Order, outcome: VoidOutcome = VoidOutcome.NEVER_CHARGED) -> PaymentVoidedEvent:
    """There is no money to give back."""
    return PaymentVoidedEvent(**about(order), outcome=outcome)


def payment_refunded(order: Order) -> PaymentRefundedEvent:
    """The money went back."""
    return PaymentRefundedEvent(
        **about(order), payment_id=uuid4(), refund_id="re-1", amount_cents=order.total_cents, currency="EUR"
    )


EVENTS: dict[Trigger, Callable[[Order], OrderEvent]] = {
    Trigger.PAYMENT_PROCESSED: payment_processed,
    Trigger.PAYMENT_FAILED: payment_failed,
    Trigger.RESERVATION_FAILED: reservation_failed,
    Trigger.INVENTORY_RELEASED: inventory_released,
    Trigger.PAYMENT_VOIDED: payment_voided,
    Trigger.PAYMENT_REFUNDED: payment_refunded,
}
"""The event of each trigger that is one."""

_PULLS: dict[Trigger, Callable[[Order], tuple[Event, ...]]] = {
    Trigger.PAYMENT_PROCESSED: lambda order: order.payment_processed(payment_processed(order), LATER),
    Trigger.PAYMENT_FAILED: lambda order: order.payment_failed(payment_failed(order), LATER),
    Trigger.RESERVATION_FAILED: lambda order: order.reservation_failed(reservation_failed(order), LATER),
    Trigger.CANCEL: lambda order: order.cancel(STAFF, LATER, "a note"),
    Trigger.DEADLINE: lambda order: order.expire(LATER),
    Trigger.SHIP: lambda order: order.ship(STAFF, LATER, "T-1"),
    Trigger.DELIVER: lambda order: order.deliver(STAFF, LATER),
    Trigger.INVENTORY_RELEASED: lambda order: order.inventory_released(inventory_released(order), LATER),
    Trigger.PAYMENT_VOIDED: lambda order: order.payment_settled(payment_voided(order), LATER),
    Trigger.PAYMENT_REFUNDED: lambda order: order.payment_settled(payment_refunded(order), LATER),
}


def pull(trigger: Trigger, order: Order) -> tuple[Event, ...]:
    """The events that the trigger makes the order cause."""
    return _PULLS[trigger](order)
