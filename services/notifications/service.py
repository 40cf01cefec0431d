"""The entrypoints of notifications: events that a customer hears of, and what was sent about an order."""

from datetime import UTC, datetime
from functools import partial
from typing import Any

from events import (
    InventoryReservationFailedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    OrderDeliveredEvent,
    OrderEvent,
    OrderShippedEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
)
from services.chassis.auth import Caller
from services.chassis.cache import Cache
from services.chassis.config import Setting, whole
from services.chassis.dead_letters import with_dead_letters
from services.chassis.errors import ServiceError
from services.chassis.journey import STEP
from services.chassis.messaging import event_handler
from services.chassis.probes import Probes
from services.chassis.rpc import rpc
from services.chassis.rpc_proxy import RpcProxy
from services.notifications.clients import Outlets
from services.notifications.models import Message, Notice, notice_of
from services.notifications.repository import SentRepository
from services.notifications.schemas import Contact, Sent, read_order_id
from services.notifications.texts import messages


@with_dead_letters
class NotificationsService:
    """Tells customers about their orders, each thing once."""

    name = "notifications"

    users_rpc = RpcProxy("users", "get_contact")
    cache = Cache()
    caller = Caller()
    outlets = Outlets()
    contact_seconds = Setting("CONTACT_CACHE_SECONDS", whole)
    probes = Probes()

    @event_handler("orders", OrderConfirmedEvent, once=False)
    def on_order_confirmed(self, event: OrderConfirmedEvent) -> None:
        """Confirm the order, unless it was cancelled meanwhile."""
        self._notify(event)

    @event_handler("payments", PaymentProcessedEvent, once=False)
    def on_payment_processed(self, event: PaymentProcessedEvent) -> None:
        """Send the receipt."""
        self._notify(event)

    @event_handler("payments", PaymentFailedEvent, once=False)
    def on_payment_failed(self, event: PaymentFailedEvent) -> None:
        """Say that the order ended because the payment did not go through."""
        self._notify(event)

    @event_handler("inventory", InventoryReservationFailedEvent, once=False)
    def on_inventory_reservation_failed(self, event: InventoryReservationFailedEvent) -> None:
        """Say that the order ended because there is not enough in stock."""
        self._notify(event)

    @event_handler("orders", OrderCancelledEvent, once=False)
    def on_order_cancelled(self, event: OrderCancelledEvent) -> None:
        """Say that the order was cancelled, where no failure says so."""
        self._notify(event)

    @event_handler("orders", OrderShippedEvent, once=False)
    def on_order_shipped(self, event: OrderShippedEvent) -> None:
        """Say that the goods are on their way."""
        self._notify(event)

    @event_handler("orders", OrderDeliveredEvent, once=False)
    def on_order_delivered(self, event: OrderDeliveredEvent) -> None:
        """Say that the goods arrived."""
        self._notify(event)

    @event_handler("payments", PaymentRefundedEvent, once=False)
    def on_payment_refunded(self, event: PaymentRefundedEvent) -> None:
        """Say that the money went back."""
        self._notify(event)

    @rpc(expected_exceptions=ServiceError)
    def get_journey(self, order_id: str) -> dict[str, Any]:
        """What was sent about the order, for its owner and staff; for anybody else nothing."""
        sent = SentRepository(self.cache).list_sent(read_order_id(order_id))
        return {"steps": STEP.show_all(each.step() for each in sent if self.caller.may_see(each.user_id))}

    def _notify(self, event: OrderEvent) -> None:
        """Tell the customer, unless that was done or may not be done any more."""
        notice = notice_of(event)
        sent = SentRepository(self.cache)
        if notice is None or sent.was_sent(notice.order_id, notice.kind):
            return
        written = messages(notice, self._contact(event))
        with sent.lease(notice.order_id):
            if not sent.was_sent(notice.order_id, *notice.kind.silenced_by) and self._deliver(written):
                sent.add(notice.order_id, record(notice, written))

    def _contact(self, event: OrderEvent) -> Contact:
        ask = partial(self.users_rpc.get_contact, str(event.user_id))
        return Contact.read(self.cache.get_or_load(f"contact:{event.user_id}", self.contact_seconds, ask))

    def _deliver(self, written: list[Message]) -> bool:
        """Whether the messages were delivered; False when the outlet's own book bars them."""
        now = datetime.now(UTC)
        return all(self.outlets[message.channel].deliver(message, now) for message in written)


def record(notice: Notice, written: list[Message]) -> Sent:
    """What is remembered of messages that were delivered."""
    return Sent(
        at=datetime.now(UTC),
        kind=notice.kind,
        channels=tuple(message.channel for message in written),
        event=notice.event.event_type,
        event_id=notice.event.event_id,
        causation_id=notice.event.causation_id,
        user_id=notice.event.user_id,
    )
