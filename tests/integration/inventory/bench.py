"""Inventory's service on a database of the test's own, its handlers driven as the chassis drives them."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from nameko.testing.services import worker_factory
from sqlalchemy import Row, create_engine, text
from sqlalchemy.orm import sessionmaker

from events import CancelReason, OrderCancelledEvent, OrderCreatedEvent, OrderEvent, OrderLine, OrderShippedEvent
from services.chassis.auth import Principal
from services.chassis.tracing import Trace
from services.chassis.work import Begin, Delivery
from services.inventory.seed import product_id
from services.inventory.service import InventoryService
from tests.support.fakes import Bell, FakeCopies, a_caller

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LAMP = product_id("Desk lamp")
NOTEBOOK = product_id("Notebook")
PRINT = product_id("Limited print")
TYPEWRITER = product_id("Vintage typewriter")


def an_order(lines: Mapping[UUID, int] | None = None, **fields: Any) -> OrderCreatedEvent:
    """An order of so many of these products, each at 1.00."""
    items = [
        OrderLine(product_id=product, product_name="Thing", quantity=quantity, unit_price_cents=100)
        for product, quantity in (lines or {LAMP: 1}).items()
    ]
    given = {
        "occurred_at": NOW,
        "order_id": uuid4(),
        "user_id": uuid4(),
        "items": items,
        "total_cents": sum(line.quantity for line in items) * 100,
        "currency": "EUR",
        "payment_method": "pm_ok",
    }
    return OrderCreatedEvent(**{**given, **fields})


def a_cancelled(order: OrderEvent) -> OrderCancelledEvent:
    """The order's cancellation, with an event id of its own each time."""
    return OrderCancelledEvent(
        occurred_at=NOW,
        order_id=order.order_id,
        user_id=order.user_id,
        reason=CancelReason.CUSTOMER,
        cancelled_from="Pending",
    )


def a_shipped(order: OrderEvent) -> OrderShippedEvent:
    """The order's shipping."""
    return OrderShippedEvent(occurred_at=NOW, order_id=order.order_id, user_id=order.user_id)


class InventoryBench:
    """One instance of the service."""

    def __init__(self, database_url: str, connections: int = 12) -> None:
        self.engine = create_engine(database_url, pool_size=connections, max_overflow=0)
        self.relay = Bell()
        self.copies = FakeCopies()

    def service(self, caller: Principal | None = None) -> InventoryService:
        """The service as a worker has it."""
        begin = Begin(sessionmaker(self.engine, expire_on_commit=False), self.relay, Trace("test"))  # type: ignore[arg-type]
        service: InventoryService = worker_factory(
            InventoryService,
            begin=begin,
            cache=self.copies,
            caller=caller or a_caller(),
            currency="EUR",
            cache_seconds=1,
        )
        return service

    def deliver(self, event: OrderEvent, attempt: int = 1) -> None:
        """Deliver the event to its handler, as the chassis does."""
        name = {
            OrderCreatedEvent: "on_order_created",
            OrderCancelledEvent: "on_order_cancelled",
            OrderShippedEvent: "on_order_shipped",
        }[type(event)]
        getattr(self.service(), name)(Delivery(event, f"inventory.{name}", attempt))

    def rows(self, query: str, **parameters: Any) -> list[Row[Any]]:
        """What the database says."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), parameters))

    def outbox(self, order: OrderEvent | None = None) -> list[str]:
        """The types of the events that wait, of one order or of none."""
        where = "order_id = :order_id" if order else "order_id IS NULL"
        parameters = {"order_id": str(order.order_id)} if order else {}
        found = self.rows(f"SELECT event_type FROM outbox WHERE {where} ORDER BY id", **parameters)  # noqa: S608 - ours
        return [row.event_type for row in found]

    def levels(self, product: UUID) -> tuple[int, int]:
        """On hand and reserved."""
        (row,) = self.rows("SELECT on_hand, reserved FROM products WHERE id = :id", id=str(product))
        return row.on_hand, row.reserved

    def status(self, order: OrderEvent) -> str:
        """The status of the order's reservation."""
        ((status,),) = self.rows("SELECT status FROM reservations WHERE order_id = :id", id=str(order.order_id))
        return str(status)

    def check_books(self) -> None:
        """Every level is the sum of its movements, and what is reserved the sum of what is reserved for orders."""
        wrong = self.rows(
            """
            SELECT p.id FROM products p
            LEFT JOIN (
                SELECT product_id,
                    sum(delta) FILTER (WHERE kind IN ('received', 'adjusted', 'shipped')) AS on_hand,
                    sum(delta) FILTER (WHERE kind IN ('reserved', 'released', 'shipped')) AS reserved
                FROM ledger GROUP BY product_id
            ) l ON l.product_id = p.id
            LEFT JOIN (
                SELECT product_id, sum(quantity) AS held FROM reservation_items JOIN reservations USING (order_id)
                WHERE status = 'reserved' GROUP BY product_id
            ) r ON r.product_id = p.id
            WHERE (p.on_hand, p.reserved, p.reserved)
                IS DISTINCT FROM (coalesce(l.on_hand, 0), coalesce(l.reserved, 0), coalesce(r.held, 0))
            """
        )
        assert wrong == []
