"""Payments' service on a database of the test's own, its handlers and its worker driven step by step."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from nameko.testing.services import worker_factory
from sqlalchemy import Row, create_engine, text
from sqlalchemy.orm import sessionmaker

from events import CancelReason, InventoryReservedEvent, OrderCancelledEvent, OrderEvent, OrderLine
from services.chassis.auth import Principal
from services.chassis.tracing import Trace
from services.chassis.work import Begin, Delivery
from services.payments.clients import CardProcessor, SimulatedProcessor
from services.payments.models import Request
from services.payments.service import PaymentsService
from tests.support.fakes import Bell, a_caller

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEASE_SECONDS = 30.0
PATIENCE_SECONDS = 5.0
"""Longer than a busy machine makes an answer wait; a test of silence has less of it."""

LITTLE_PATIENCE_SECONDS = 0.5


def a_reserved(method: str = "pm_ok", **fields: Any) -> InventoryReservedEvent:
    """An order of 2 x 21.00 whose goods are set aside."""
    line = OrderLine(product_id=uuid4(), product_name="Thing", quantity=2, unit_price_cents=2_100)
    given = {
        "occurred_at": NOW,
        "order_id": uuid4(),
        "user_id": uuid4(),
        "items": [line],
        "total_cents": 4_200,
        "currency": "EUR",
        "payment_method": method,
        "correlation_id": "the-request",
    }
    return InventoryReservedEvent(**{**given, **fields})


def a_cancelled(order: OrderEvent) -> OrderCancelledEvent:
    """The order's cancellation, with an event id of its own each time."""
    return OrderCancelledEvent(
        occurred_at=NOW,
        order_id=order.order_id,
        user_id=order.user_id,
        reason=CancelReason.CUSTOMER,
        cancelled_from="Pending",
        correlation_id="the-request",
    )


class PaymentsBench:
    """One instance of the service, and the processor's book."""

    def __init__(self, database_url: str) -> None:
        self.engine = create_engine(database_url, pool_size=12, max_overflow=0)
        self.book = create_engine(database_url, pool_size=12, max_overflow=0)
        self.relay, self.worker = Bell(), Bell()
        self.lease_seconds = LEASE_SECONDS
        self.answer_seconds = PATIENCE_SECONDS
        self.slow_seconds = 0.05

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self.book.dispose()

    def service(self, caller: Principal | None = None) -> PaymentsService:
        """The service as a worker has it."""
        begin = Begin(sessionmaker(self.engine, expire_on_commit=False), self.relay, Trace("worker"))  # type: ignore[arg-type]
        service: PaymentsService = worker_factory(
            PaymentsService,
            begin=begin,
            caller=caller or a_caller(),
            processor=CardProcessor(SimulatedProcessor(self.book, self.slow_seconds), self.answer_seconds),
            attempts=self.worker,
            lease_seconds=self.lease_seconds,
            retry_seconds=0.000_001,
            refund_retry_seconds=3600.0,
        )
        return service

    def deliver(self, event: OrderEvent, attempt: int = 1) -> None:
        """Deliver the event to its handler, as the chassis does."""
        name = "on_order_cancelled" if isinstance(event, OrderCancelledEvent) else "on_inventory_reserved"
        getattr(self.service(), name)(Delivery(event, f"payments.{name}", attempt))

    def claim(self, most: int = 100) -> list[Request]:
        """What the worker would ask the processor now."""
        return list(self.service().claim_attempts(most).jobs)

    def work(self) -> int:
        """Let the worker do what is due until nothing is; how many attempts that took."""
        done = 0
        while requests := self.claim():
            for request in requests:
                self.service().make_attempt(request)
                done += 1
        return done

    def tell_processor(self, target: object, call: str, kind: str, times: int = 1) -> None:
        """Let the processor misbehave."""
        with self.book.begin() as connection:
            connection.execute(
                text("INSERT INTO processor.faults (target, call, kind, times) VALUES (:target, :call, :kind, :times)"),
                {"target": str(target), "call": call, "kind": kind, "times": times},
            )

    def let_leases_run_out(self) -> None:
        """As if the lease's time had passed."""
        with self.engine.begin() as connection:
            connection.execute(
                text("UPDATE payments SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL")
            )

    def rows(self, query: str, **parameters: Any) -> list[Row[Any]]:
        """What the database says."""
        with self.engine.connect() as connection:
            return list(connection.execute(text(query), parameters))

    def payment(self, order: OrderEvent) -> Row[Any]:
        """The order's payment."""
        (row,) = self.rows("SELECT * FROM payments WHERE order_id = :id", id=str(order.order_id))
        return row

    def outbox(self, order: OrderEvent) -> list[str]:
        """The types of the order's events, in the order they were written."""
        found = self.rows("SELECT event_type FROM outbox WHERE order_id = :id ORDER BY id", id=str(order.order_id))
        return [row.event_type for row in found]

    def attempts(self, order: OrderEvent) -> list[tuple[str, int, str | None]]:
        """Kind, number and outcome of every attempt."""
        query = (
            "SELECT kind, number, outcome FROM attempts JOIN payments ON payments.id = payment_id "
            "WHERE order_id = :id ORDER BY attempts.id"
        )
        return [tuple(row) for row in self.rows(query, id=str(order.order_id))]

    def booked(self, order: OrderEvent) -> tuple[list[str], int]:
        """What the processor's book has under the order's keys: outcomes of charges, number of refunds."""
        charges = self.rows("SELECT outcome FROM processor.charges WHERE key = :key", key=str(order.order_id))
        refunds = self.rows("SELECT FROM processor.refunds WHERE key = :key", key=f"{order.order_id}:refund")
        return [row.outcome for row in charges], len(refunds)
