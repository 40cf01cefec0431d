import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from nameko.exceptions import ConfigurationError

from services.chassis.errors import Unavailable
from services.notifications import clients
from services.notifications.clients import MailServer, Refused
from tests.integration.notifications.bench import Bench, Order


class Inbox:
    """A real SMTP server that keeps what it gets, or answers as told."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.recipient_answer = "250 OK"
        self.data_answer = "250 OK"

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's own signature
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take the recipient or not."""
        envelope.rcpt_tos.append(address)
        return self.recipient_answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - likewise
        """Take the mail or not."""
        if self.data_answer.startswith("250"):
            self.mails.append(envelope)
        return self.data_answer


@pytest.fixture
def inbox() -> Inbox:
    """What the server got."""
    return Inbox()


@pytest.fixture
def smtp_url(inbox: Inbox) -> Iterator[str]:
    """A running server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    yield f"smtp://127.0.0.1:{port}"
    controller.stop()


@pytest.fixture
def bench(redis_url: str, smtp_url: str, tmp_path: Path) -> Iterator[Bench]:
    """The service with a real mail server."""
    bench = Bench(redis_url, tmp_path, SMTP_URL=smtp_url)
    yield bench
    bench.stop()


class TestMailServer:
    """Real SMTP when configured."""

    def test_gets_the_mail(self, bench: Bench, inbox: Inbox, order: Order) -> None:
        """Once; the SMS stays simulated."""
        bench.users.contact["firstName"] = "Zoë"
        event = order.confirmed()

        bench.tell(event, event)

        assert len(inbox.mails) == 1
        mail = inbox.mails[0]
        assert (mail.mail_from, mail.rcpt_tos) == ("orders@example.com", ["ann@example.com"])
        assert f"X-Order-Id: {order.id}".encode() in (mail.original_content or b"")
        assert bench.mails(order.id) == []
        assert len([*(bench.mailbox / "sms").iterdir()]) == 1
        assert len(bench.journey(order.id, order.user_id)) == 1

    def test_gets_no_confirmation_after_a_cancellation(self, bench: Bench, inbox: Inbox, order: Order) -> None:
        """Redis remembers."""
        bench.tell(order.cancelled(), order.confirmed())

        assert len(inbox.mails) == 1

    @pytest.mark.parametrize("stage", ["recipient_answer", "data_answer"])
    def test_that_refuses_for_now_is_asked_again(self, bench: Bench, inbox: Inbox, order: Order, stage: str) -> None:
        """4xx is a passing failure."""
        setattr(inbox, stage, "450 later")
        with pytest.raises(Unavailable):
            bench.tell(order.confirmed())

        setattr(inbox, stage, "250 OK")
        bench.tell(order.confirmed())

        assert len(inbox.mails) == 1

    @pytest.mark.parametrize("stage", ["recipient_answer", "data_answer"])
    def test_that_refuses_for_ever_is_a_lasting_failure(
        self, bench: Bench, inbox: Inbox, order: Order, stage: str
    ) -> None:
        """5xx goes to the dead letters, without the address."""
        setattr(inbox, stage, "550 no such mailbox")

        with pytest.raises(Refused) as refused:
            bench.tell(order.confirmed())
        assert "ann@" not in str(refused.value)

    def test_that_is_away_is_a_passing_failure(self, redis_url: str, tmp_path: Path, order: Order) -> None:
        """Nobody listens."""
        bench = Bench(redis_url, tmp_path, SMTP_URL="smtp://127.0.0.1:1")

        with pytest.raises(Unavailable):
            bench.tell(order.confirmed())

    def test_that_says_nothing_is_given_up(
        self, redis_url: str, tmp_path: Path, order: Order, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It accepts and is silent: the deadline ends it."""
        monkeypatch.setattr(clients, "SMTP_SECONDS", 0.2)
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            bench = Bench(redis_url, tmp_path, SMTP_URL=f"smtp://127.0.0.1:{silent.getsockname()[1]}")
            began = time.monotonic()

            with pytest.raises(Unavailable):
                bench.tell(order.confirmed())
        assert time.monotonic() - began < 8

    def test_never_gets_credentials_in_the_clear(self, bench: Bench, inbox: Inbox, order: Order, smtp_url: str) -> None:
        """A server without TLS gets no password."""
        url = smtp_url.replace("smtp://", "smtp://user:secret@")
        bench.providers["outlets"].outlets["email"] = MailServer(url, "orders@example.com")

        with pytest.raises(Unavailable):
            bench.tell(order.confirmed())
        assert inbox.mails == []

    @pytest.mark.parametrize("url", ["mail.example.com", "http://x", "smtp://"])
    def test_needs_an_address(self, redis_url: str, tmp_path: Path, url: Any) -> None:
        """A wrong setting refuses to start and says how it should be."""
        with pytest.raises(ConfigurationError, match="SMTP_URL"):
            Bench(redis_url, tmp_path, SMTP_URL=url)
