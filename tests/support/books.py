"""The books of a small shop in which everything is as it must be: one order of each ending, a day old.

Built row by row in four databases and a mailbox, so that a test can spoil exactly one thing and see who notices.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import insert, text

from events import (
    CancelReason,
    Event,
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    InventoryReservedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderCreatedEvent,
    OrderDeliveredEvent,
    OrderLine,
    OrderShippedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
    ProductChangedEvent,
    ReleaseOutcome,
    Shortage,
    VoidOutcome,
    outcome_id,
)
from services.chassis import wire
from services.chassis.inbox import INBOX
from services.chassis.outbox import OUTBOX
from services.chassis.topology import Subscription
from services.inventory.models import LedgerEntry, Product, Reservation, ReservationItem
from services.notifications.invariants import WORTH_A_MESSAGE, kind_due
from services.orders.models import Order
from services.orders.tables import HistoryEntry, OrderItem
from services.orders.tables import Product as Copy
from services.payments.models import Payment
from tests.support.shop import Shop

CENTS: Final = 2100
LONG_AGO: Final = datetime.now(UTC) - timedelta(days=1)


class Bookkeeper:
    """Writes the books; every event it tells was heard by everybody."""

    def __init__(self, shop: Shop, subscriptions: Iterable[Subscription]) -> None:
        self.shop = shop
        self.subscriptions = list(subscriptions)
        self.user_id, self.product_id = uuid4(), uuid4()
        shop.ids |= {"user": self.user_id, "product": self.product_id}
        self.on_hand, self.reserved = 100, 0
        self.movements: list[dict[str, Any]] = []

    def write(self) -> None:
        """One order of each ending."""
        self.shop.mailbox.joinpath("email").mkdir(parents=True)
        self.connections = {name: self.shop.engine(name).connect() for name in self.shop.urls}
        user = {"id": self.user_id, "email": "ada@example.com", "password_hash": "x", "role": "customer"}
        self.execute("users", "INSERT INTO users (id, email, password_hash, role, active, created_at, updated_at)"
                     " VALUES (:id, :email, :password_hash, :role, true, now(), now())", **user)  # fmt: skip
        self.move("received", 100, None)
        for name in ("pending", "confirmed", "shipped", "delivered", "refunded", "short"):
            self.shop.ids[name] = uuid4()
            getattr(self, f"write_{name}")(self.shop.ids[name])
        self.write_product()
        for connection in self.connections.values():
            connection.commit()
            connection.close()

    def execute(self, service: str, statement: str, **values: Any) -> None:
        """One statement in that database."""
        self.connections[service].execute(text(statement), values)

    def add(self, service: str, table: Any, *rows: Mapping[str, Any]) -> None:
        """Rows of a table."""
        self.connections[service].execute(insert(table), list(rows))

    # --- one order of each ending

    def write_pending(self, order_id: UUID) -> None:
        """Waits for its payment, within its deadline."""
        self.order(order_id, "Pending", "Pending", deadline_at=datetime.now(UTC) + timedelta(days=1))
        self.reservation(order_id, "reserved")
        self.payment(order_id, "processing", next_attempt_at=datetime.now(UTC) + timedelta(days=1))

    def write_confirmed(self, order_id: UUID) -> None:
        """Paid and set aside."""
        self.order(order_id, "Confirmed", "Completed", "Confirmed")
        self.paid(order_id)

    def write_shipped(self, order_id: UUID) -> None:
        """On its way."""
        self.order(order_id, "Shipped", "Completed", "Confirmed", "Shipped")
        self.paid(order_id, "shipped")
        self.tell(OrderShippedEvent(**self.about(order_id)))

    def write_delivered(self, order_id: UUID) -> None:
        """There."""
        self.order(order_id, "Delivered", "Completed", "Confirmed", "Shipped", "Delivered")
        self.paid(order_id, "shipped")
        self.tell(OrderShippedEvent(**self.about(order_id)), OrderDeliveredEvent(**self.about(order_id)))

    def write_refunded(self, order_id: UUID) -> None:
        """Cancelled after it was paid; everything went back."""
        self.order(
            order_id, "Cancelled", "Refunded", "Confirmed", "Cancelled", **self.cancelled("customer", "Confirmed")
        )
        self.paid(order_id, "released", payment="refunded")
        self.cancel(order_id, CancelReason.CUSTOMER, ReleaseOutcome.RELEASED)
        refund: dict[str, Any] = {
            "payment_id": uuid4(),
            "refund_id": f"re_{order_id}",
            "amount_cents": CENTS,
            "currency": "EUR",
        }
        event_id = outcome_id(order_id, "PaymentRefundedEvent:refunded")
        self.tell(PaymentRefundedEvent(**self.about(order_id), event_id=event_id, **refund))

    def write_short(self, order_id: UUID) -> None:
        """Cancelled because there was not enough."""
        self.order(order_id, "Cancelled", "Voided", "Cancelled", **self.cancelled("out_of_stock", "Pending"))
        shortage = Shortage(product_id=self.product_id, requested=1, available=0)
        self.add("inventory", Reservation, self.known(order_id, status="rejected", shortages=[{"requested": 1}]))
        self.tell(InventoryReservationFailedEvent(**self.about(order_id), reason="out_of_stock", shortages=[shortage]))
        self.payment(order_id, "voided", asked=False)
        self.cancel(order_id, CancelReason.OUT_OF_STOCK, ReleaseOutcome.NOTHING_RESERVED)
        outcome = VoidOutcome.NEVER_CHARGED
        event_id = outcome_id(order_id, f"PaymentVoidedEvent:{outcome}")
        self.tell(PaymentVoidedEvent(**self.about(order_id), event_id=event_id, outcome=outcome))

    # --- its parts

    def about(self, order_id: UUID) -> dict[str, Any]:
        """What every event about it says."""
        return {"occurred_at": LONG_AGO, "order_id": order_id, "user_id": self.user_id}

    def known(self, order_id: UUID, **values: Any) -> dict[str, Any]:
        """What every row about it says."""
        return {"order_id": order_id, "user_id": self.user_id, "created_at": LONG_AGO, "updated_at": LONG_AGO, **values}

    @property
    def lines(self) -> dict[str, Any]:
        """One of the product."""
        line = OrderLine(product_id=self.product_id, product_name="Thing", quantity=1, unit_price_cents=CENTS)
        return {"items": [line], "total_cents": CENTS, "currency": "EUR"}

    def order(self, order_id: UUID, status: str, payment_status: str, *moves: str, **values: Any) -> None:
        """The order with its line and history, and that it was placed."""
        row = self.known(order_id, status=status, payment_status=payment_status, total_cents=CENTS, currency="EUR")
        row |= {
            "id": row.pop("order_id"),
            "payment_method": "pm_ok",
            "version": len(moves) + 1,
            "deadline_at": LONG_AGO,
        }
        self.add("orders", Order.__table__, row | values)
        line = {"order_id": order_id, "product_id": self.product_id, "position": 1, "product_name": "Thing"}
        self.add("orders", OrderItem, line | {"quantity": 1, "unit_price_cents": CENTS})
        before = None
        for number, move in enumerate(("Pending", *moves), start=1):
            entry = {"order_id": order_id, "number": number, "at": LONG_AGO, "event": "test", "actor": "test"}
            self.add("orders", HistoryEntry, entry | {"from_status": before, "to_status": move})
            before = move
        self.tell(OrderCreatedEvent(**self.about(order_id), **self.lines, payment_method="pm_ok"))

    def cancelled(self, reason: str, before: str) -> dict[str, Any]:
        """What a cancelled and settled order says."""
        settled = {"stock_settled_at": LONG_AGO, "payment_settled_at": LONG_AGO}
        return {"status_reason": reason, "cancelled_from": before, "cancelled_at": LONG_AGO, **settled}

    def cancel(self, order_id: UUID, reason: CancelReason, outcome: ReleaseOutcome) -> None:
        """That it was cancelled, and its stock released."""
        self.tell(OrderCancelledEvent(**self.about(order_id), reason=reason, cancelled_from="Pending"))
        event_id = outcome_id(order_id, f"InventoryReleasedEvent:{outcome}")
        self.tell(InventoryReleasedEvent(**self.about(order_id), event_id=event_id, outcome=outcome))

    def paid(self, order_id: UUID, stock: str = "reserved", payment: str = "captured") -> None:
        """Everything that a paid order has."""
        self.reservation(order_id, stock)
        receipt = f"ch_{order_id}"
        refund = f"re_{order_id}" if payment == "refunded" else None
        given_back: dict[str, Any] = {"refund_id": refund, "cancel_requested": refund is not None}
        self.payment(order_id, payment, transaction_id=receipt, **given_back)
        charge: dict[str, Any] = {"key": str(order_id), "id": receipt, "cents": CENTS, "at": LONG_AGO}
        self.execute("payments", "INSERT INTO processor.charges VALUES"
                     " (:key, 'charged', :id, NULL, :cents, 'EUR', 'pm_ok', :at)", **charge)  # fmt: skip
        if refund:
            back: dict[str, Any] = {
                "key": f"{order_id}:refund",
                "id": receipt,
                "refund": refund,
                "cents": CENTS,
                "at": LONG_AGO,
            }
            self.execute("payments", "INSERT INTO processor.refunds VALUES (:key, :id, :refund, :cents, :at)", **back)
        payment_fields: dict[str, Any] = {
            "payment_id": uuid4(),
            "amount_cents": CENTS,
            "currency": "EUR",
            "transaction_id": receipt,
        }
        self.tell(PaymentProcessedEvent(**self.about(order_id), **payment_fields))
        self.tell(OrderConfirmedEvent(**self.about(order_id), **self.lines))

    def reservation(self, order_id: UUID, status: str) -> None:
        """Its stock, with the movements that led there."""
        self.add("inventory", Reservation, self.known(order_id, status=status))
        self.move("reserved", 1, order_id)
        if status != "reserved":
            self.move(status, -1, order_id)
        self.tell(InventoryReservedEvent(**self.about(order_id), **self.lines, payment_method="pm_ok"))
        item = {"order_id": order_id, "product_id": self.product_id, "quantity": 1}
        self.movements.append({"item": item})

    def payment(self, order_id: UUID, status: str, *, asked: bool = True, **values: Any) -> None:
        """Its money as payments knows it."""
        amount = {"amount_cents": CENTS, "currency": "EUR", "payment_method": "pm_ok"} if asked else {}
        row = self.known(order_id, id=uuid4(), status=status, cancel_requested=status == "voided", **amount)
        row |= {"correlation_id": "test", "causation_id": uuid4()}
        self.add("payments", Payment, row | values)

    def move(self, kind: str, delta: int, order_id: UUID | None) -> None:
        """A movement of the product's stock."""
        self.on_hand += delta if kind == "shipped" else 0
        self.reserved += delta if kind in ("reserved", "released", "shipped") else 0
        row = {"product_id": self.product_id, "kind": kind, "delta": delta, "order_id": order_id, "at": LONG_AGO}
        levels = {"on_hand_after": self.on_hand, "reserved_after": self.reserved}
        self.movements.append({"ledger": row | levels | {"actor": "test", "reason": "test"}})

    def write_product(self) -> None:
        """The product as its movements have left it, and the copy of it."""
        told: dict[str, Any] = {
            "name": "Thing",
            "unit_price_cents": CENTS,
            "currency": "EUR",
            "active": True,
            "product_version": 1,
        }
        levels = {"on_hand": self.on_hand, "reserved": self.reserved, "description": ""}
        times = {"created_at": LONG_AGO, "updated_at": LONG_AGO}
        self.add("inventory", Product, {"id": self.product_id, **told, **levels, **times})
        for movement in self.movements:
            if "ledger" in movement:
                self.add("inventory", LedgerEntry, movement["ledger"])
            else:
                self.add("inventory", ReservationItem, movement["item"])
        self.add("orders", Copy, {"product_id": self.product_id, **told})
        self.tell(ProductChangedEvent(occurred_at=LONG_AGO, product_id=self.product_id, **told))

    def tell(self, *told: Event) -> None:
        """The events as published by their services and answered by everybody."""
        for event in told:
            payload = wire.encode(event).decode()
            row = {"event_id": event.event_id, "event_type": event.event_type, "correlation_id": "test"}
            row |= {"order_id": getattr(event, "order_id", None), "payload": payload}
            times = {"created_at": LONG_AGO, "published_at": LONG_AGO}
            self.add(event.publisher, OUTBOX, row | times)
            for each in self.subscriptions:
                if (each.source, each.event) == (event.publisher, event.event_type):
                    self.hear(each, event, payload)

    def hear(self, each: Subscription, event: Event, payload: str) -> None:
        """One subscriber has answered the event."""
        order_id = getattr(event, "order_id", None)
        if each.service == "notifications":
            kind = kind_due(event.event_type, payload) if event.event_type in WORTH_A_MESSAGE else None
            if kind:
                self.shop.mailbox.joinpath("email", f"{order_id}.{kind}.eml").touch()
            return
        row = {"event_id": event.event_id, "handler": f"{each.service}.{each.method}", "order_id": order_id}
        self.add(each.service, INBOX, row | {"event_type": event.event_type, "attempt": 1, "handled_at": LONG_AGO})
