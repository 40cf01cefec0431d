import email
import email.policy
import fcntl
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from events import CancelReason, OrderEvent
from services.chassis.errors import NotFound, Unauthenticated, Unavailable
from services.notifications.clients import Mailbox
from services.notifications.models import Kind
from tests.integration.notifications.bench import HANDLERS, Bench, Order

EVERY = {
    "confirmation": Order.confirmed,
    "receipt": Order.paid,
    "closing": Order.declined,
    "shipping": Order.shipped,
    "delivery": Order.delivered,
    "refund": Order.refunded,
}
ALL_EVENTS = [*EVERY.values(), Order.short, Order.cancelled]


class TestEveryEvent:
    """What holds for all eight."""

    @pytest.mark.parametrize("kind", EVERY)
    def test_is_told_by_its_kind_of_mail(self, bench: Bench, order: Order, kind: str) -> None:
        """One real RFC 5322 message with everything one needs to find it."""
        bench.tell(EVERY[kind](order))

        mail = email.message_from_string(bench.mail(order.id, kind), policy=email.policy.default)
        assert mail["To"] == "Ann <ann@example.com>"
        assert mail["From"] == "orders@example.com"
        assert mail["X-Order-Id"] == str(order.id)
        assert mail["X-Kind"] == kind
        assert str(order.id) in mail["Message-ID"]
        assert mail.get_content().startswith("Hello Ann,\n")
        assert not mail.defects

    @pytest.mark.parametrize("make", ALL_EVENTS)
    def test_delivered_twice_is_one_mail(self, bench: Bench, order: Order, make: object) -> None:
        """The second delivery does nothing, also when Redis forgot everything in between."""
        event: OrderEvent = make(order)  # type: ignore[operator]
        bench.tell(event, event)
        files = {file: file.stat().st_mtime_ns for file in bench.mailbox.rglob("*.*") if file.is_file()}

        with Redis.from_url(bench.config["REDIS_URL"]) as redis:
            redis.flushall()
        bench.tell(event)

        assert {file: file.stat().st_mtime_ns for file in bench.mailbox.rglob("*.*") if file.is_file()} == files
        assert len(bench.mails(order.id)) == 1
        assert len(bench.journey(order.id, order.user_id)) == 1

    @pytest.mark.parametrize("make", ALL_EVENTS)
    def test_waits_while_redis_or_users_is_away(
        self, order: Order, tmp_path: Path, redis_url: str, make: object
    ) -> None:
        """A passing failure, with nothing sent."""
        event: OrderEvent = make(order)  # type: ignore[operator]
        without_redis = Bench("redis://127.0.0.1:1/0", tmp_path)
        without_users = Bench(redis_url, tmp_path)
        without_users.users.is_away = True

        for bench in (without_redis, without_users):
            with pytest.raises(Unavailable):
                bench.tell(event)

        assert without_users.mails(order.id) == []
        without_users.users.is_away = False
        without_users.tell(event)
        assert len(without_users.mails(order.id)) == 1

    def test_has_a_handler(self, order: Order) -> None:
        """The table of the saga, and no event more."""
        assert {type(make(order)) for make in ALL_EVENTS} == set(HANDLERS)


class TestClosing:
    """Failure and cancellation are one kind."""

    @pytest.mark.parametrize("reason", [CancelReason.OUT_OF_STOCK, CancelReason.PAYMENT_FAILED])
    def test_a_cancellation_that_a_failure_tells_says_nothing(
        self, bench: Bench, order: Order, reason: CancelReason
    ) -> None:
        """The failure's own mail comes with the failure."""
        bench.tell(order.cancelled(reason))

        assert bench.mails(order.id) == []

    @pytest.mark.parametrize("reason", [CancelReason.CUSTOMER, CancelReason.STAFF, CancelReason.EXPIRED])
    def test_the_first_news_counts(self, bench: Bench, order: Order, reason: CancelReason) -> None:
        """Cancelled while being charged, then declined: one mail, the first."""
        bench.tell(order.cancelled(reason), order.declined(), order.cancelled(reason))

        assert bench.mails(order.id) == ["closing"]
        assert "cancel" in bench.mail(order.id, "closing")
        assert "did not go through" not in bench.mail(order.id, "closing")

    @pytest.mark.parametrize("how", ["cancelled", "declined", "short"])
    @pytest.mark.parametrize("flushed", [False, True])
    def test_no_confirmation_comes_after_it(
        self,
        bench: Bench,
        order: Order,
        redis: Redis,
        how: str,
        flushed: bool,  # noqa: FBT001 - a parameter
    ) -> None:
        """Whatever Redis remembers: the mailbox knows as well."""
        bench.tell(getattr(order, how)())
        if flushed:
            redis.flushall()

        bench.tell(order.confirmed())

        assert bench.mails(order.id) == ["closing"]

    def test_comes_after_a_confirmation(self, bench: Bench, order: Order) -> None:
        """A confirmed order may be cancelled, and the money comes back."""
        bench.tell(order.paid(), order.confirmed(), order.cancelled(), order.refunded())

        assert bench.mails(order.id) == ["receipt", "confirmation", "closing", "refund"]


class TestLease:
    """One message of an order at a time."""

    def test_makes_others_wait(self, bench: Bench, order: Order, redis: Redis) -> None:
        """Somebody else is sending for this order: come again."""
        redis.set(f"sending:{order.id}", "another process", ex=30)

        with pytest.raises(Unavailable) as refused:
            bench.tell(order.confirmed())

        assert refused.value.code == "order_busy"
        assert bench.mails(order.id) == []
        assert redis.get(f"sending:{order.id}") == b"another process"

    def test_is_given_back(self, bench: Bench, order: Order, redis: Redis) -> None:
        """Also when sending failed."""
        bench.tell(order.confirmed())
        bench.providers["outlets"].outlets.clear()
        with pytest.raises(KeyError):
            bench.tell(order.shipped())

        assert not redis.exists(f"sending:{order.id}")

    def test_is_no_proof_of_sending(self, bench: Bench, order: Order, redis: Redis) -> None:
        """Killed with the lease in hand: once it has run out the message goes."""
        redis.set(f"sending:{order.id}", "a dead process", px=50)
        bench.tell(order.confirmed())

        assert bench.mails(order.id) == ["confirmation"]


class TestContact:
    """Where a message goes."""

    def test_is_asked_once_per_customer(self, bench: Bench, order: Order) -> None:
        """Redis keeps a copy."""
        bench.tell(order.paid(), order.confirmed(), order.shipped())

        assert bench.users.asked == [str(order.user_id)]

    def test_of_nobody_is_a_lasting_failure(self, bench: Bench, order: Order) -> None:
        """No account, no mail: the dead letters."""
        bench.users.knows = False

        with pytest.raises(NotFound):
            bench.tell(order.confirmed())

    def test_without_number_or_name_gets_a_mail_only(self, bench: Bench, order: Order) -> None:
        """Hello, then."""
        bench.users.contact.update(phone=None, firstName=None)  # type: ignore[call-overload]

        bench.tell(order.confirmed())

        assert [*(bench.mailbox / "sms").iterdir()] == []
        assert "\nTo: ann@example.com\n" in bench.mail(order.id, "confirmation")

    @pytest.mark.parametrize("name", ["Ann\nBcc: everybody@example.com", "Ann\r", "Ann\x00", "Ann\u2028x"])
    @pytest.mark.parametrize("field", ["firstName", "email", "phone"])
    def test_cannot_break_out_of_a_header(self, bench: Bench, order: Order, name: str, field: str) -> None:
        """A name of two lines is refused; nothing is sent."""
        bench.users.contact[field] = name

        with pytest.raises(ValueError, match="control characters"):
            bench.tell(order.confirmed())
        assert bench.mails(order.id) == []

    def test_with_any_other_name_is_right(self, bench: Bench, order: Order) -> None:
        """Quotes, brackets and letters of all kinds stay inside the name."""
        bench.users.contact["firstName"] = 'Zoë "<x@y>", 李'

        bench.tell(order.confirmed())

        mail = email.message_from_string(bench.mail(order.id, "confirmation"), policy=email.policy.default)
        (to,) = mail["To"].addresses
        assert (to.display_name, to.addr_spec) == ('Zoë "<x@y>", 李', "ann@example.com")


class TestSms:
    """The short form."""

    def test_goes_where_a_customer_waits_for_news(self, bench: Bench, order: Order) -> None:
        """One file beside the mail."""
        bench.tell(order.confirmed(), order.paid())

        (file,) = (bench.mailbox / "sms").iterdir()
        head, body = file.read_text().split("\n\n")
        assert file.name == f"{order.id}.confirmation.txt"
        assert "To: +4915112345678\n" in head
        assert f"X-Order-Id: {order.id}\n" in head
        assert "X-Kind: confirmation" in head
        assert body == f"Your order {order.id} is confirmed: 39.98 EUR.\n"


class TestMailbox:
    """The folder that stands for the outside world."""

    def test_files_a_mail_whole_or_not_at_all(self, tmp_path: Path, redis_url: str, order: Order) -> None:
        """Killed at any moment, a mail is there completely or not; nothing half has its name."""
        script = """
import os, sys, threading, time
from datetime import datetime, UTC
from pathlib import Path
from uuid import UUID
from services.notifications.clients import Mailbox
from services.notifications.models import Channel, Kind, Message
box = Mailbox(Path(sys.argv[1]), "orders@example.com")
print("ready", flush=True)
for number in range(100_000):
    order = UUID(int=number)
    message = Message(Channel.EMAIL, order, Kind.RECEIPT, "a@example.com", None, "x", "y" * 20_000)
    box.deliver(message, datetime.now(UTC))
"""
        for _ in range(3):
            child = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)], stdout=subprocess.PIPE
            )
            assert child.stdout is not None
            while b"ready" not in child.stdout.readline():
                pass
            wait_for_files(tmp_path / "email", 20)
            child.kill()
            child.wait()
            child.stdout.close()

        sizes = {file.stat().st_size for file in (tmp_path / "email").iterdir()}
        assert min(sizes) > 20_000

    def test_lets_nothing_overtake_a_message_half_way(self, bench: Bench, order: Order) -> None:
        """A frozen process that holds the order's lock makes others wait, not pass."""
        with (bench.mailbox / ".locks" / order.id.hex[:2]).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            with pytest.raises(Unavailable):
                bench.tell(order.confirmed())

        bench.tell(order.confirmed())
        assert bench.mails(order.id) == ["confirmation"]

    def test_leaves_no_drafts(self, bench: Bench, order: Order) -> None:
        """Not even of repeats."""
        bench.tell(order.confirmed(), order.confirmed())

        assert [*(bench.mailbox / ".drafts").iterdir()] == []
        assert Mailbox(bench.mailbox, "x@y").holds(order.id, Kind.CONFIRMATION, next(iter(bench.worker().outlets)))


class TestGetJourney:
    """What was sent about an order."""

    def test_tells_who_what_and_when(self, bench: Bench, order: Order, redis: Redis) -> None:
        """Oldest first, with the event that caused it, for two months."""
        paid, confirmed = order.paid(), order.confirmed()
        bench.tell(paid, confirmed)

        first, second = bench.journey(order.id, order.user_id)

        assert (first["event"], first["eventId"]) == ("PaymentProcessedEvent", str(paid.event_id))
        assert (second["service"], second["outcome"], second["attempt"]) == ("notifications", "sent", 1)
        assert (first["note"], second["note"]) == ("receipt by email", "confirmation by email and sms")
        assert first["at"].endswith("Z")
        assert int(redis.ttl(f"sent:{order.id}:receipt")) > 30 * 86_400

    def test_shows_it_to_the_owner_and_staff_only(self, bench: Bench, order: Order) -> None:
        """Others see an order without steps, strangers are refused."""
        bench.tell(order.paid())

        assert len(bench.journey(order.id, order.user_id)) == 1
        assert len(bench.journey(order.id, role="staff")) == 1
        assert bench.journey(order.id) == []
        with pytest.raises(Unauthenticated):
            bench.worker().get_journey(str(order.id))

    def test_of_an_unknown_order_is_empty(self, bench: Bench) -> None:
        """And of what is no id, not found."""
        assert bench.journey(uuid4(), role="staff") == []
        with pytest.raises(NotFound):
            bench.worker().get_journey("7")


def wait_for_files(folder: Path, count: int) -> None:
    """Wait until that many more files are there."""
    before = len([*folder.iterdir()])
    deadline = time.monotonic() + 10
    while len([*folder.iterdir()]) < min(before + count, 99_999):
        assert time.monotonic() < deadline
        time.sleep(0.005)
