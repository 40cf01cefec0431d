"""Orders as they are kept, and the rules each of their rows obeys.

Which move is legal says the table in ``transitions.py``. The methods of :class:`Order` return the events they cause
(none for a repeat) and raise Conflict or Alarm where a cell forbids the move; nobody else assigns a status.
Deadlines are set and judged by the database's clock; every other time is the one the caller took.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, DateTime, Index, Text, desc, func, text
from sqlalchemy.orm import Mapped, WriteOnlyMapped, mapped_column, relationship

from events import (
    LONGEST_NOTE,
    MOST_CENTS,
    CancelReason,
    Event,
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderCreatedEvent,
    OrderDeliveredEvent,
    OrderShippedEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
)
from services.chassis.auth import Principal
from services.chassis.errors import Alarm, Conflict, TooMany
from services.orders.pricing import Basket
from services.orders.tables import Base, Cause, HistoryEntry, OrderItem, Words, one_of
from services.orders.transitions import (
    PAYMENT_MOVES,
    TRANSITIONS,
    VOIDED_AS,
    Cell,
    OrderStatus,
    PaymentStatus,
    Trigger,
    next_statuses,
    target,
)

WAITS_FOR: Final[Mapping[OrderStatus, str | None]] = {
    OrderStatus.PENDING: "inventory to reserve the stock, then payments to take the money (PaymentProcessedEvent)",
    OrderStatus.CONFIRMED: "staff to ship it",
    OrderStatus.SHIPPED: "staff to note that it arrived",
    OrderStatus.DELIVERED: None,
}
LONGEST_SETTLEMENT_DISTANCE: Final = timedelta(days=1)
UNSETTLED: Final = "(stock_settled_at IS NULL OR payment_settled_at IS NULL)"
OPEN_ORDERS_RETRY_SECONDS: Final = 5
MOST_DOUBLINGS: Final = 16
"""Enough to reach the longest distance from any first one; keeps the arithmetic bounded."""


class Order(Base):
    """An order, its money and what cancelling it still owes. ``version`` counts the entries of its history."""

    __tablename__ = "orders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    status: Mapped[OrderStatus] = mapped_column(Words(OrderStatus))
    status_reason: Mapped[CancelReason | None] = mapped_column(Words(CancelReason))
    cancelled_from: Mapped[OrderStatus | None] = mapped_column(Words(OrderStatus))
    cancel_note: Mapped[str] = mapped_column(Text, server_default="")
    payment_status: Mapped[PaymentStatus] = mapped_column(Words(PaymentStatus))
    total_cents: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str] = mapped_column(Text)
    payment_method: Mapped[str] = mapped_column(Text)
    shipping_address: Mapped[str | None] = mapped_column(Text)
    tracking: Mapped[str | None] = mapped_column(Text)
    version: Mapped[int] = mapped_column(server_default="0")
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    deadline_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    cancelled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    stock_settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    payment_settled_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    settlement_attempts: Mapped[int] = mapped_column(server_default="0")
    next_settlement_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    pruned_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    items: Mapped[list[OrderItem]] = relationship(order_by=OrderItem.position, lazy="raise")
    history: WriteOnlyMapped[HistoryEntry] = relationship(order_by=HistoryEntry.number)

    __table_args__ = (
        CheckConstraint(one_of("status", OrderStatus), "orders_status"),
        CheckConstraint(one_of("payment_status", PaymentStatus), "orders_payment_status"),
        CheckConstraint(one_of("status_reason", CancelReason), "orders_status_reason"),
        CheckConstraint(f"total_cents BETWEEN 0 AND {MOST_CENTS}", "orders_total"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", "orders_currency"),
        CheckConstraint(f"length(cancel_note) <= {LONGEST_NOTE}", "orders_cancel_note"),
        CheckConstraint("status IN ('Pending', 'Cancelled') OR payment_status = 'Completed'", "orders_live_is_paid"),
        CheckConstraint(
            "num_nonnulls(status_reason, cancelled_from, cancelled_at)"
            " = CASE status WHEN 'Cancelled' THEN 3 ELSE 0 END",
            "orders_cancelled_says_why",
        ),
        CheckConstraint(
            "status = 'Cancelled' OR num_nonnulls(stock_settled_at, payment_settled_at) = 0",
            "orders_only_cancelled_settles",
        ),
        Index("orders_newest", desc("created_at"), desc("id")),
        Index("orders_newest_of_user", "user_id", desc("created_at"), desc("id")),
        Index("orders_pending", "deadline_at", postgresql_where=text("status = 'Pending'")),
        Index("orders_pending_of_user", "user_id", postgresql_where=text("status = 'Pending'")),
        Index(
            "orders_over",
            "updated_at",
            postgresql_where=text("status IN ('Delivered', 'Cancelled') AND pruned_at IS NULL"),
        ),
        Index(
            "orders_unsettled",
            "cancelled_at",
            postgresql_where=text(f"status = 'Cancelled' AND {UNSETTLED}"),
        ),
    )

    @classmethod
    def place(cls, owner: Principal, basket: Basket, now: datetime) -> tuple[Self, OrderCreatedEvent]:
        """A new Pending order and the event that tells of it. The repository gives it its deadline."""
        order = cls(
            id=uuid4(),
            user_id=owner.user_id,
            status=OrderStatus.PENDING,
            payment_status=PaymentStatus.PENDING,
            total_cents=basket.total_cents,
            currency=basket.currency,
            payment_method=basket.payment_method,
            shipping_address=basket.shipping_address,
            cancel_note="",
            settlement_attempts=0,
            version=0,
            created_at=now,
            items=[OrderItem.of(line, position) for position, line in enumerate(basket.lines, start=1)],
        )
        order._enter(Cause.person("place", owner, now))
        created = OrderCreatedEvent(
            **order._about(now),
            items=list(basket.lines),
            total_cents=order.total_cents,
            currency=order.currency,
            payment_method=order.payment_method,
            shipping_address=order.shipping_address,
        )
        return order, created

    @property
    def settled(self) -> bool:
        """Whether everything that cancelling this order owed was given back."""
        return self.stock_settled_at is not None and self.payment_settled_at is not None

    @property
    def over(self) -> bool:
        """Whether nothing will happen to this order any more."""
        return self.status == OrderStatus.DELIVERED or (self.status == OrderStatus.CANCELLED and self.settled)

    @property
    def waits_for(self) -> str | None:
        """Whom the order waits for and for which word of theirs; None when nothing is left to happen."""
        if self.status != OrderStatus.CANCELLED:
            return WAITS_FOR[self.status]
        owed = [] if self.stock_settled_at else ["inventory to give the stock back (InventoryReleasedEvent)"]
        if self.payment_settled_at is None:
            owed.append(
                "payments to give the money back (PaymentRefundedEvent, or PaymentVoidedEvent if there is none)"
            )
        return ", ".join(owed) or None

    def payment_processed(self, event: PaymentProcessedEvent, now: datetime) -> tuple[Event, ...]:
        """Confirm the order, unless it is past that; the money is noted in any case. Raises Alarm for another sum."""
        move = self._judge(Trigger.PAYMENT_PROCESSED)
        if move and (event.amount_cents, event.currency) != (self.total_cents, self.currency):
            raise Alarm(f"order {self.id}: the amount paid is not its total")
        self._enter_payment(Cause.event(event, now), PaymentStatus.COMPLETED, move)
        if not move:
            return ()
        lines = [item.line for item in self.items]
        return (
            OrderConfirmedEvent(**self._about(now), total_cents=self.total_cents, currency=self.currency, items=lines),
        )

    def payment_failed(self, event: PaymentFailedEvent, now: datetime) -> tuple[Event, ...]:
        """Cancel the order that could not be paid."""
        move, cause = self._judge(Trigger.PAYMENT_FAILED), Cause.event(event, now)
        if not move:
            self._enter_payment(cause, PaymentStatus.FAILED)
            return ()
        return self._cancel(cause, CancelReason.PAYMENT_FAILED, event.reason, payment=PaymentStatus.FAILED)

    def reservation_failed(self, event: InventoryReservationFailedEvent, now: datetime) -> tuple[Event, ...]:
        """Cancel the order that the stock could not serve."""
        if not self._judge(Trigger.RESERVATION_FAILED):
            return ()
        return self._cancel(Cause.event(event, now), CancelReason.OUT_OF_STOCK, event.reason)

    def cancel(self, by: Principal, now: datetime, note: str = "") -> tuple[Event, ...]:
        """Cancel for a person who may see the order; raises Conflict once it has left the house."""
        if not self._judge(Trigger.CANCEL):
            return ()
        reason = CancelReason.CUSTOMER if by.user_id == self.user_id else CancelReason.STAFF
        return self._cancel(Cause.person(Trigger.CANCEL, by, now), reason, note)

    def expire(self, now: datetime) -> tuple[Event, ...]:
        """Cancel because the deadline has passed."""
        if not self._judge(Trigger.DEADLINE):
            return ()
        return self._cancel(Cause.clock(Trigger.DEADLINE, now), CancelReason.EXPIRED, "")

    def ship(self, by: Principal, now: datetime, tracking: str | None = None) -> tuple[Event, ...]:
        """Note that the goods left the house; raises Conflict unless the order is Confirmed (or shipped already)."""
        move = self._judge(Trigger.SHIP)
        if not move:
            return ()
        self.tracking = tracking
        self._enter(Cause.person(Trigger.SHIP, by, now), move, note=tracking or "")
        return (OrderShippedEvent(**self._about(now), tracking=tracking),)

    def deliver(self, by: Principal, now: datetime) -> tuple[Event, ...]:
        """Note that the goods arrived; raises Conflict unless the order is Shipped (or delivered already)."""
        move = self._judge(Trigger.DELIVER)
        if not move:
            return ()
        self._enter(Cause.person(Trigger.DELIVER, by, now), move)
        return (OrderDeliveredEvent(**self._about(now)),)

    def inventory_released(self, event: InventoryReleasedEvent, now: datetime) -> tuple[Event, ...]:
        """Note that this cancelled order holds no stock any more. Raises Alarm for any other."""
        self._judge(Trigger.INVENTORY_RELEASED)
        if self.stock_settled_at is None:
            self.stock_settled_at = now
            self._enter(Cause.event(event, now), note=event.outcome)
        return ()

    def payment_settled(self, event: PaymentVoidedEvent | PaymentRefundedEvent, now: datetime) -> tuple[Event, ...]:
        """Note that this cancelled order's money is where it belongs. Raises Alarm for any other."""
        self._judge(Trigger(event.event_type))
        if self.payment_settled_at is None:
            self.payment_settled_at = now
            payment = settled_as(event)
            self._enter(Cause.event(event, now), payment=payment, note=payment)
        return ()

    def remind(self, now: datetime, first_distance: timedelta) -> tuple[Event, ...]:
        """Tell again, under a new id, that the order was cancelled, and put off the next time by twice as long."""
        if self.settled:
            return ()
        self.settlement_attempts += 1
        distance = first_distance * 2 ** min(self.settlement_attempts, MOST_DOUBLINGS)
        self.next_settlement_at = func.now() + min(distance, LONGEST_SETTLEMENT_DISTANCE)
        self._enter(Cause.clock("settlement", now), note=f"reminder {self.settlement_attempts}")
        return (self._cancelled(now),)

    def _judge(self, trigger: Trigger) -> OrderStatus | None:
        """The status the trigger moves this order to, or None; raises what the table's cell says."""
        cell = TRANSITIONS[trigger][self.status]
        if cell is Cell.ALARM:
            raise Alarm(f"order {self.id}: {trigger} in {self.status}")
        if cell is Cell.REFUSED:
            wanted, allowed = target(trigger), [each.value for each in next_statuses(self.status)]
            raise Conflict(
                "illegal_transition",
                f"An order that is {self.status} cannot become {wanted}.",
                {"from": self.status.value, "to": wanted.value, "allowed": allowed},
            )
        return cell if isinstance(cell, OrderStatus) else None

    def _cancel(
        self, cause: Cause, reason: CancelReason, note: str, payment: PaymentStatus | None = None
    ) -> tuple[Event, ...]:
        self.status_reason, self.cancelled_from, self.cancel_note = reason, self.status, note[:LONGEST_NOTE]
        self.cancelled_at = func.now()
        self._enter(cause, OrderStatus.CANCELLED, payment, self.cancel_note)
        return (self._cancelled(cause.at),)

    def _cancelled(self, now: datetime) -> OrderCancelledEvent:
        reason, cancelled_from = CancelReason(self.status_reason or ""), self.cancelled_from or ""
        return OrderCancelledEvent(
            **self._about(now), reason=reason, note=self.cancel_note, cancelled_from=str(cancelled_from)
        )

    def _about(self, now: datetime) -> dict[str, Any]:
        return {"order_id": self.id, "user_id": self.user_id, "occurred_at": now}

    def _enter_payment(self, cause: Cause, payment: PaymentStatus, to: OrderStatus | None = None) -> None:
        """Enter a report about money, unless it changes nothing."""
        if to or payment in PAYMENT_MOVES[self.payment_status]:
            self._enter(cause, to, payment)

    def _enter(
        self, cause: Cause, to: OrderStatus | None = None, payment: PaymentStatus | None = None, note: str = ""
    ) -> None:
        """Assign the statuses and enter into the history what happened; a payment status never moves backwards."""
        before = self.status if self.version else None
        self.status = to or self.status
        if payment in PAYMENT_MOVES[self.payment_status]:
            self.payment_status = payment
        self.version += 1
        self.updated_at = cause.at
        self.history.add(
            HistoryEntry(
                number=self.version,
                at=cause.at,
                event=cause.what,
                event_id=cause.event_id,
                from_status=before,
                to_status=self.status,
                actor=cause.actor,
                actor_id=cause.actor_id,
                note=note,
            )
        )


def require_room(open_orders: int, most_open: int) -> None:
    """Raise TooMany unless somebody with so many Pending orders may place one more; 0 allows any number."""
    if 0 < most_open <= open_orders:
        detail = f"You have {most_open} orders that are still Pending; wait until one of them is decided."
        raise TooMany("too_many_open_orders", detail, {"retry_after": OPEN_ORDERS_RETRY_SECONDS})


def settled_as(event: PaymentVoidedEvent | PaymentRefundedEvent) -> PaymentStatus:
    """What the payment of a cancelled order came to."""
    return VOIDED_AS[event.outcome] if isinstance(event, PaymentVoidedEvent) else PaymentStatus.REFUNDED
