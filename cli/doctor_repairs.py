"""What can be mended by telling it again, and how: a new row in the outbox of the service that is to tell it.

Nothing that was written is changed. An event that somebody missed goes out again under its own id, so those who know it
do nothing; what a status lacks is told by the model of its service, under the id the model gives it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import create_engine, insert, literal_column, select
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

import events
from cli.configuration import configuration
from cli.doctor_report import Finding, Report
from events import (
    CancelReason,
    Event,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderCreatedEvent,
    OrderDeliveredEvent,
    OrderEvent,
    OrderShippedEvent,
)
from services.chassis import outbox
from services.chassis.outbox import OUTBOX
from services.chassis.tracing import Trace
from services.orders.models import Order
from services.orders.repository import OrderRepository
from services.payments.repository import PaymentRepository
from services.payments.transitions import Cell

NOTE: Final = "told by ./oms doctor --repair: there is no such order"
CONNECT_SECONDS: Final = 10

Write = Callable[[Session, datetime], int]


@dataclass(frozen=True)
class Repair:
    """Something to tell again: whose outbox, what in words, and how."""

    service: str
    sentence: str
    write: Write


def plan(report: Report) -> list[Repair]:
    """What can be told again of what is wrong, each thing once."""
    repairs: dict[str, Repair] = {}
    for finding in report.findings():
        repair = repair_of(finding)
        if repair:
            repairs.setdefault(repair.sentence, repair)
    return list(repairs.values())


def repair_of(finding: Finding) -> Repair | None:
    """How to mend it, if telling something again can."""
    find = REPAIRS.get(finding.check)
    return find(finding) if find else None


def carry_out(repairs: list[Repair], database_urls: Mapping[str, str]) -> int:
    """Tell all of it; how many events went into outboxes. Each repair is a transaction of its own."""
    told = 0
    for service in dict.fromkeys(repair.service for repair in repairs):
        engine = create_engine(
            database_urls[service], poolclass=NullPool, connect_args={"connect_timeout": CONNECT_SECONDS}
        )
        for repair in repairs:
            if repair.service == service:
                with Session(engine, expire_on_commit=False) as session, session.begin():
                    told += repair.write(session, datetime.now(UTC))
        engine.dispose()
    return told


def write(session: Session, *told: Event) -> int:
    """Put the events into the outbox of the session's database."""
    if told:
        session.flush()
        outbox.add(session, told, Trace(f"doctor-{uuid4()}"))
    return len(told)


# --- an event that somebody missed


def tell_the_same(finding: Finding) -> Repair | None:
    """The event goes out again as it was, unless it is still on its way."""
    if finding.row.get("waiting"):
        return None
    service, event_id = finding.row["source"], UUID(finding.row["event_id"])
    sentence = f"{service}: send {finding.row['event_type']} {event_id} again, unchanged"

    def write_again(session: Session, _now: datetime) -> int:
        names = ("event_id", "event_type", "order_id", "correlation_id", "causation_id", "traceparent", "payload")
        first = select(*(OUTBOX.c[name] for name in names)).where(OUTBOX.c.event_id == event_id)
        copied = insert(OUTBOX).from_select(list(names), first.order_by(OUTBOX.c.id).limit(1))
        return len(session.execute(copied.returning(literal_column("1"))).all())

    return Repair(service, sentence, write_again)


# --- what orders must tell


def cancel_again(finding: Finding) -> Repair | None:
    """A cancelled order is announced again, so that everybody gives back what they hold and says so."""
    if finding.row.get("status", "Cancelled") != "Cancelled":
        return None
    order_id = UUID(str(finding.order_id))

    def write_cancelled(session: Session, now: datetime) -> int:
        order = OrderRepository(session).get_for_update(order_id)
        if order.status != "Cancelled":
            return 0
        first_distance = timedelta(seconds=float(configuration()["SETTLEMENT_FIRST_SECONDS"]))
        return write(session, *(order.remind(now, first_distance) or [cancelled(order, now)]))

    return Repair("orders", f"orders: tell again that order {order_id} was cancelled", write_cancelled)


def cancel_unknown(finding: Finding) -> Repair | None:
    """What is held for an order that does not exist is given back; what has left the house cannot be."""
    if finding.row.get("reservation") == "shipped" or not finding.row.get("user_id"):
        return None
    order_id, user_id = UUID(str(finding.order_id)), UUID(finding.row["user_id"])

    def write_cancelled(session: Session, now: datetime) -> int:
        if session.get(Order, order_id) is not None:
            return 0
        about: dict[str, Any] = {"order_id": order_id, "user_id": user_id, "occurred_at": now}
        reason = CancelReason.OUT_OF_STOCK  # the one whose mail is another event's: nobody is told of this order
        return write(session, OrderCancelledEvent(**about, reason=reason, note=NOTE, cancelled_from="Pending"))

    return Repair("orders", f"orders: tell that order {order_id}, which does not exist, is cancelled", write_cancelled)


def tell_status(finding: Finding) -> Repair | None:
    """The event that an order's status lacks, as the order is now."""
    missing, order_id = str(finding.row["missing"]), UUID(str(finding.order_id))
    if missing == "OrderCancelledEvent":
        return cancel_again(finding)

    def write_missing(session: Session, now: datetime) -> int:
        order = OrderRepository(session).get_for_update(order_id)
        return write(session, STATUS_EVENTS[missing](order, now))

    return Repair("orders", f"orders: tell {missing} of order {order_id}", write_missing)


def ship_again(finding: Finding) -> Repair | None:
    """A shipped order whose stock is still reserved is announced as shipped again."""
    shipped = finding.row["status"] in ("Shipped", "Delivered") and finding.row["reservation"] == "reserved"
    if not shipped:
        return cancel_again(finding)
    return tell_status(Finding(finding.check, finding.text, {**finding.row, "missing": "OrderShippedEvent"}))


def about(order: Order, now: datetime) -> dict[str, Any]:
    """What every event about the order says."""
    return {"order_id": order.id, "user_id": order.user_id, "occurred_at": now}


def lines(order: Order) -> dict[str, Any]:
    """The order's lines and what they come to."""
    return {"items": [item.line for item in order.items], "total_cents": order.total_cents, "currency": order.currency}


def created(order: Order, now: datetime) -> Event:
    """That the order was placed."""
    asked: dict[str, Any] = {"payment_method": order.payment_method, "shipping_address": order.shipping_address}
    return OrderCreatedEvent(**about(order, now), **lines(order), **asked)


def cancelled(order: Order, now: datetime) -> Event:
    """That the order was cancelled."""
    why: dict[str, Any] = {"reason": CancelReason(order.status_reason or ""), "note": order.cancel_note}
    return OrderCancelledEvent(**about(order, now), **why, cancelled_from=str(order.cancelled_from))


STATUS_EVENTS: Final[Mapping[str, Callable[[Order, datetime], Event]]] = {
    "OrderCreatedEvent": created,
    "OrderConfirmedEvent": lambda order, now: OrderConfirmedEvent(**about(order, now), **lines(order)),
    "OrderShippedEvent": lambda order, now: OrderShippedEvent(**about(order, now), tracking=order.tracking),
    "OrderDeliveredEvent": lambda order, now: OrderDeliveredEvent(**about(order, now)),
}


# --- what payments must tell


def tell_payment(finding: Finding) -> Repair | None:
    """The outcome of a payment that was never told."""
    missing, order_id = str(finding.row["missing"]), UUID(str(finding.order_id))
    (kind,) = (kind for kind in events.ALL if kind.__name__ == missing and issubclass(kind, OrderEvent))

    def write_outcome(session: Session, now: datetime) -> int:
        payment = PaymentRepository(session).find_by_order(order_id)
        return write(session, *payment.tell(Cell(tells=(kind,)), at=now)) if payment else 0

    return Repair("payments", f"payments: tell {missing} of order {order_id}", write_outcome)


def tell_release(finding: Finding) -> Repair | None:
    """A release that was never told is told once the cancellation is announced again."""
    if finding.row["missing"] != "InventoryReleasedEvent":
        return None
    return cancel_again(Finding(finding.check, finding.text, {"order_id": finding.order_id}))


REPAIRS: Final[Mapping[str, Callable[[Finding], Repair | None]]] = {
    "events.reach_every_subscriber": tell_the_same,
    "notifications.outcome_is_told": tell_the_same,
    "orders.cancelled_is_settled": cancel_again,
    "orders.stock_is_as_the_order": ship_again,
    "orders.payment_is_as_the_order": cancel_again,
    "orders.nothing_is_held_for_nobody": cancel_unknown,
    "orders.status_was_told": tell_status,
    "inventory.reservation_was_told": tell_release,
    "payments.payment_was_told": tell_payment,
}
"""Which checks can be mended; every other one needs a person."""
