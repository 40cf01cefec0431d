"""What messages say. Plain text; ``$order`` is the order's id, ``$greeting`` a line of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Template
from typing import Final

from services.notifications.models import Channel, Message, Notice
from services.notifications.schemas import Contact


@dataclass(frozen=True)
class Text:
    """One text: ``sms`` only where a customer waits for the news."""

    subject: str
    body: str
    sms: str | None = None


TEXTS: Final[Mapping[str, Text]] = {
    "confirmation": Text(
        "Your order is confirmed",
        "your order $order is confirmed and will be sent soon.\n\n$lines\n\nTotal: $total\n",
        "Your order $order is confirmed: $total.",
    ),
    "receipt": Text(
        "We received your payment",
        "we received your payment of $amount for order $order.\nTransaction: $transaction\n",
    ),
    "out_of_stock": Text(
        "Your order could not be filled",
        "we do not have enough in stock for your order $order, so it was cancelled.\nYou were not charged.\n",
        "Your order $order was cancelled: not enough in stock. You were not charged.",
    ),
    "payment_failed": Text(
        "Your payment did not go through",
        "your payment for order $order did not go through, so the order was cancelled.\nYou were not charged.\n",
        "Your order $order was cancelled: the payment did not go through.",
    ),
    "cancelled_by_customer": Text(
        "Your order is cancelled",
        "your order $order is cancelled, as you asked.\nIf you paid already, you get your money back.\n",
        "Your order $order is cancelled, as you asked.",
    ),
    "cancelled_by_staff": Text(
        "Your order is cancelled",
        "we had to cancel your order $order.\nIf you paid already, you get your money back.\n",
        "We had to cancel your order $order.",
    ),
    "cancelled_by_expired": Text(
        "Your order is cancelled",
        "your order $order could not be completed in time, so it was cancelled.\n"
        "If you paid already, you get your money back.\n",
        "Your order $order was cancelled: it could not be completed in time.",
    ),
    "shipping": Text(
        "Your order is on its way",
        "your order $order left our house today.\n$tracking",
        "Your order $order is on its way.",
    ),
    "delivery": Text(
        "Your order has arrived",
        "your order $order was delivered. Enjoy it!\n",
        "Your order $order was delivered.",
    ),
    "refund": Text(
        "Your money is on its way back",
        "we returned $amount for your cancelled order $order.\n",
    ),
}


def messages(notice: Notice, contact: Contact) -> list[Message]:
    """What tells this customer of it: an e-mail, and an SMS where there is a text and a number for one."""
    text = TEXTS[notice.wording]
    greeting = f"Hello {contact.first_name}," if contact.first_name else "Hello,"
    values = {**notice.values, "order": str(notice.order_id)}
    body = f"{greeting}\n\n{Template(text.body).substitute(values)}"
    written = [_message(notice, Channel.EMAIL, contact.email, contact, text.subject, body)]
    if text.sms and contact.phone:
        sms = Template(text.sms).substitute(values)
        written.append(_message(notice, Channel.SMS, contact.phone, contact, text.subject, sms))
    return written


def _message(  # noqa: PLR0913, PLR0917 - a message has that many parts
    notice: Notice, channel: Channel, address: str, contact: Contact, subject: str, body: str
) -> Message:
    return Message(channel, notice.order_id, notice.kind, address, contact.first_name, subject, body)
