from uuid import UUID

import pytest

from events import CancelReason, OrderEvent
from services.notifications.models import NOTICES, Channel, Kind, Message, message_id, money, notice_of, one_line
from services.notifications.schemas import Contact
from services.notifications.texts import TEXTS, messages
from tests.integration.notifications.bench import HANDLERS, Order

CONTACT = Contact("ann@example.com", "+4915112345678", "Ann")


def messages_of(event: OrderEvent) -> list[Message]:
    """What tells a customer of it."""
    notice = notice_of(event)
    assert notice is not None
    return messages(notice, CONTACT)


class TestNoticeOf:
    """What an event is worth telling."""

    def test_knows_every_event_that_is_handled(self) -> None:
        """And no other."""
        assert set(NOTICES) == set(HANDLERS)

    @pytest.mark.parametrize("reason", CancelReason)
    def test_tells_a_cancellation_or_leaves_it_to_the_failure(self, reason: CancelReason) -> None:
        """Each reason is decided."""
        notice = notice_of(Order().cancelled(reason))

        if reason in (CancelReason.OUT_OF_STOCK, CancelReason.PAYMENT_FAILED):
            assert notice is None
        else:
            assert notice is not None
            assert notice.wording in TEXTS

    def test_lists_what_was_ordered(self) -> None:
        """With prices from cents, never a float."""
        (mail, sms) = messages_of(Order().confirmed())

        assert "  2 x Kettle, 19.99 EUR each\n\nTotal: 39.98 EUR\n" in mail.body
        assert (mail.channel, sms.channel) == (Channel.EMAIL, Channel.SMS)

    @pytest.mark.parametrize("tracking", [None, "", "DHL 1\nPay again: http://x"])
    def test_adds_no_line_of_anybody_elses(self, tracking: str | None) -> None:
        """A tracking number is one line or none."""
        (mail, _) = messages_of(Order().shipped(tracking))

        assert mail.body.count("\n") == (4 if tracking else 3)

    def test_leaves_a_dollar_sign_alone(self) -> None:
        """Values are not templates."""
        (mail, _) = messages_of(Order().shipped("$order ${x} $"))

        assert "Tracking: $order ${x} $\n" in mail.body


class TestTexts:
    """What messages say."""

    def test_each_is_used_and_each_use_has_one(self) -> None:
        """No text without an event, no event without a text."""
        order = Order()
        events = [order.confirmed(), order.paid(), order.declined(), order.short(), order.shipped(), order.delivered()]
        events += [order.refunded(), *(order.cancelled(reason) for reason in CancelReason)]

        assert {notice.wording for event in events if (notice := notice_of(event))} == set(TEXTS)

    def test_an_sms_is_short(self) -> None:
        """One message of 160 characters with an order's id in it."""
        assert all(len(text.sms.replace("$order", "x" * 36)) <= 160 for text in TEXTS.values() if text.sms)


class TestMessageId:
    """One per order, kind and channel, for ever."""

    def test_never_changes(self) -> None:
        """A changed Message-ID would send every mail again."""
        order_id = UUID(int=7)

        assert (
            message_id(order_id, Kind.CLOSING, Channel.EMAIL)
            == "<00000000-0000-0000-0000-000000000007.closing@email.notifications.oms.invalid>"
        )

    def test_differs(self) -> None:
        """By kind and by channel."""
        ids = {message_id(UUID(int=7), kind, channel) for kind in Kind for channel in Channel}

        assert len(ids) == len(Kind) * len(Channel)


@pytest.mark.parametrize(
    ("cents", "text"), [(0, "0.00 EUR"), (5, "0.05 EUR"), (199_99, "199.99 EUR"), (10**15, "10000000000000.00 EUR")]
)
def test_money_is_written_from_cents(cents: int, text: str) -> None:
    """Exactly."""
    assert money(cents, "EUR") == text


def test_one_line_is_one_line() -> None:
    """Whatever was in it."""
    assert one_line(" a\r\nb\u2028c\td ") == "a b c d"
