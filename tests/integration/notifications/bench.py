"""One process of the notifications service: real Redis and mailbox, and users as it answers over RPC."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from events import (
    CancelReason,
    InventoryReservationFailedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderDeliveredEvent,
    OrderEvent,
    OrderLine,
    OrderShippedEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
)
from services.chassis.auth import Principal, issue_token
from services.chassis.errors import NotFound, Unavailable
from services.chassis.probes import Probes
from services.chassis.rpc_proxy import RpcProxy
from services.chassis.work import Delivery
from services.notifications.service import NotificationsService
from tests.support.fakes import Instance

HANDLERS = {
    OrderConfirmedEvent: "on_order_confirmed",
    PaymentProcessedEvent: "on_payment_processed",
    PaymentFailedEvent: "on_payment_failed",
    InventoryReservationFailedEvent: "on_inventory_reservation_failed",
    OrderCancelledEvent: "on_order_cancelled",
    OrderShippedEvent: "on_order_shipped",
    OrderDeliveredEvent: "on_order_delivered",
    PaymentRefundedEvent: "on_payment_refunded",
}
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Order:
    """One order, and the events it may have."""

    def __init__(self) -> None:
        self.id = uuid4()
        self.user_id = uuid4()
        self.line = OrderLine(product_id=uuid4(), product_name="Kettle", quantity=2, unit_price_cents=1999)

    def event(self, kind: type[OrderEvent], **more: Any) -> OrderEvent:
        """An event of this order."""
        return kind(occurred_at=NOW, order_id=self.id, user_id=self.user_id, **more)

    def confirmed(self) -> OrderEvent:
        """Stock and money are there."""
        return self.event(OrderConfirmedEvent, total_cents=3998, currency="EUR", items=[self.line])

    def paid(self) -> OrderEvent:
        """The money is there."""
        more = {"payment_id": uuid4(), "amount_cents": 3998, "currency": "EUR", "transaction_id": "tx-1"}
        return self.event(PaymentProcessedEvent, **more)

    def declined(self) -> OrderEvent:
        """There is no money."""
        return self.event(PaymentFailedEvent, payment_id=uuid4(), reason="insufficient_funds")

    def short(self) -> OrderEvent:
        """There is no stock."""
        return self.event(InventoryReservationFailedEvent, reason="out_of_stock", shortages=[])

    def cancelled(self, reason: CancelReason = CancelReason.CUSTOMER) -> OrderEvent:
        """It is off."""
        return self.event(OrderCancelledEvent, reason=reason, cancelled_from="Pending")

    def shipped(self, tracking: str | None = "DHL 1") -> OrderEvent:
        """The goods left."""
        return self.event(OrderShippedEvent, tracking=tracking)

    def delivered(self) -> OrderEvent:
        """The goods arrived."""
        return self.event(OrderDeliveredEvent)

    def refunded(self) -> OrderEvent:
        """The money went back."""
        more = {"payment_id": uuid4(), "refund_id": "re-1", "amount_cents": 3998, "currency": "EUR"}
        return self.event(PaymentRefundedEvent, **more)


class FakeUsers:
    """Users as it answers over RPC: knows everybody but those it is told to forget, and may be away."""

    def __init__(self) -> None:
        self.contact = {"email": "ann@example.com", "phone": "+4915112345678", "firstName": "Ann"}
        self.asked: list[str] = []
        self.is_away = False
        self.knows = True

    def get_contact(self, user_id: str) -> dict[str, Any]:
        """The contact."""
        self.asked.append(user_id)
        if self.is_away:
            raise Unavailable("timed_out", "users did not answer in time.")
        if not self.knows:
            raise NotFound("user_unknown", "There is no such account.")
        return dict(self.contact)


class Bench(Instance[NotificationsService]):
    """One process of the service; ``more`` are further settings."""

    def __init__(self, redis_url: str, mailbox: Path, users: FakeUsers | None = None, **more: Any) -> None:
        self.mailbox = mailbox
        self.users = users or FakeUsers()
        self.config: dict[str, Any] = {
            "REDIS_URL": redis_url,
            "MAILBOX_DIR": str(mailbox),
            "SMTP_URL": "",
            "MAIL_FROM": "orders@example.com",
            "CONTACT_CACHE_SECONDS": 600,
            "JWT_SECRET": "a-secret-of-more-than-thirty-two-bytes",
            "JWT_ISSUER": "oms",
            "JWT_AUDIENCE": "oms-api",
        } | more
        super().__init__(NotificationsService, self.config, Probes, RpcProxy)

    def worker(self, token: str | None = None) -> NotificationsService:
        """The service as it runs one call or delivery."""
        service = super().worker(token)
        service.users_rpc = self.users  # type: ignore[assignment] # the one service this one asks
        return service

    def tell(self, *events: OrderEvent) -> None:
        """Deliver the events, one after the other."""
        for event in events:
            method: Any = HANDLERS[type(event)]
            getattr(self.worker(), method)(Delivery(event, f"notifications.{method}", 1))

    def journey(self, order_id: UUID, user_id: UUID | None = None, role: str = "customer") -> list[dict[str, Any]]:
        """What this user sees."""
        now = datetime.now(UTC)
        principal = Principal(user_id or uuid4(), role, uuid4(), uuid4(), now + timedelta(minutes=5))
        service = self.worker(issue_token(principal, now, self.config))
        steps: list[dict[str, Any]] = service.get_journey(str(order_id))["steps"]
        return steps

    def mails(self, order_id: UUID) -> list[str]:
        """The kinds of e-mail in the mailbox, in the order they were filed."""
        files = sorted((self.mailbox / "email").glob(f"{order_id}.*"), key=lambda file: file.stat().st_mtime_ns)
        return [file.name.split(".")[1] for file in files]

    def mail(self, order_id: UUID, kind: str) -> str:
        """One e-mail's text."""
        return (self.mailbox / "email" / f"{order_id}.{kind}.eml").read_text()

    def stop(self) -> None:
        """Let go of Redis."""
        self.providers["cache"].stop()
