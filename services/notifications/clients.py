"""The outside world: a mailbox in a folder, which stands for mail and SMS, and a real mail server when configured.

Both deliver a :class:`Message` or raise: ``Unavailable`` (or OSError) when another try may help, ``Refused`` when none
will. The mailbox keeps its own book - one file per message, created in one step - so a repeat is one message there; a
mail server has no book, and delivers at least once.
"""

import fcntl
import os
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import eventlet
from nameko.exceptions import ConfigurationError

from services.chassis.config import read, text
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger
from services.chassis.provider import Provider
from services.notifications.models import Channel, Kind, Message

SMTP_SECONDS: Final = 15
"""How long handing over one mail may take, from look-up to goodbye."""

SUFFIXES: Final = {Channel.EMAIL: ".eml", Channel.SMS: ".txt"}

log = get_logger(__name__)


class Refused(Exception):
    """The mail server will never take this message. A lasting failure: it goes to the dead letters."""


class Outlet(Protocol):
    """Where messages of one channel go."""

    def deliver(self, message: Message, now: datetime) -> bool:
        """Whether it was delivered, now or before; False when another message silences it."""


class Outlets(Provider["dict[Channel, Outlet]"]):
    """Injects the outlet of each channel: the mailbox, or the mail server for e-mail when ``SMTP_URL`` is set."""

    def setup(self) -> None:
        """Read the settings; raises ConfigurationError for a wrong one."""
        config = self.container.config
        sender = read(config, "MAIL_FROM", text)
        mailbox = Mailbox(Path(read(config, "MAILBOX_DIR", text)), sender)
        url = config.get("SMTP_URL")
        self.outlets: dict[Channel, Outlet] = {
            Channel.EMAIL: MailServer(url, sender) if url else mailbox,
            Channel.SMS: mailbox,
        }

    def get_dependency(self, worker_ctx: Any) -> "dict[Channel, Outlet]":
        """The same outlets for every worker."""
        return self.outlets


class Mailbox:
    """A folder with one file per message, ``<channel>/<order>.<kind>.eml`` or ``.txt``."""

    def __init__(self, folder: Path, sender: str) -> None:
        self.folder = folder
        self.sender = sender
        for name in (*Channel, ".drafts", ".locks"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def deliver(self, message: Message, now: datetime) -> bool:
        """Whether the message is in the mailbox, now or since before; False when another one silences it."""
        with self._order_locked(message.order_id):
            if self._is_silenced(message):
                return False
            is_new = self._file(message, now)
        log.info("filed", order_id=str(message.order_id), kind=message.kind, channel=message.channel, new=is_new)
        return True

    def holds(self, order_id: UUID, kind: Kind, channel: Channel) -> bool:
        """Whether the message was delivered."""
        return self._path(order_id, kind, channel).exists()

    def _path(self, order_id: UUID, kind: Kind, channel: Channel) -> Path:
        return self.folder / channel / f"{order_id}.{kind}{SUFFIXES[channel]}"

    def _is_silenced(self, message: Message) -> bool:
        others = [kind for kind in message.kind.silenced_by if kind != message.kind]
        return any(self.holds(message.order_id, kind, channel) for kind in others for channel in Channel)

    def _file(self, message: Message, now: datetime) -> bool:
        """Whether the message was filed now: complete in a draft first, then under its name in one step."""
        draft = self.folder / ".drafts" / str(uuid4())
        try:
            draft.write_bytes(written(message, self.sender, now))
            os.link(draft, self._path(message.order_id, message.kind, message.channel))
        except FileExistsError:
            return False
        finally:
            draft.unlink(missing_ok=True)
        return True

    @contextmanager
    def _order_locked(self, order_id: UUID) -> Iterator[None]:
        # Held by a process that is frozen, gone with one that dies: nothing overtakes a message half-way.
        with (self.folder / ".locks" / order_id.hex[:2]).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Unavailable("mailbox_busy", "The mailbox is in use.", {"retry_after": 1}) from None
            yield


class MailServer:
    """A real SMTP server: ``smtp://user:password@host:587`` (STARTTLS) or ``smtps://...:465``."""

    def __init__(self, url: str, sender: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ConfigurationError("SMTP_URL must be like smtp://user:password@host:587 or smtps://host:465")
        self.sender = sender
        self.domain = sender.rpartition("@")[2]
        self.is_tls = parts.scheme == "smtps"
        self.address = (parts.hostname, parts.port or (465 if self.is_tls else 25))
        self.credentials = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None

    def deliver(self, message: Message, now: datetime) -> bool:
        """True once the server has taken the message. Raises Refused, or Unavailable."""
        mail = compose(message, self.sender, now)
        too_late = eventlet.Timeout(SMTP_SECONDS)
        try:
            with self._connected() as server:
                server.send_message(mail, self.sender, [message.address])
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:
            raise _refusal(error) from None
        except (smtplib.SMTPException, OSError, eventlet.Timeout) as error:
            if isinstance(error, eventlet.Timeout) and error is not too_late:
                raise
            raise _mail_away() from error
        finally:
            too_late.cancel()
        log.info("mail_sent", order_id=str(message.order_id), kind=message.kind)
        return True

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        server = self._connect()
        try:
            server.ehlo_or_helo_if_needed()
            if not self.is_tls and server.has_extn("starttls"):
                server.starttls(context=ssl.create_default_context())
                server.ehlo()
            elif self.credentials and not self.is_tls:
                raise smtplib.SMTPNotSupportedError("no credentials without TLS")
            if self.credentials:
                server.login(*self.credentials)
            yield server
            with suppress(smtplib.SMTPException, OSError):  # it has taken the mail: goodbye is a courtesy
                server.quit()
        finally:
            server.close()

    def _connect(self) -> smtplib.SMTP:
        options: dict[str, Any] = {"local_hostname": self.domain, "timeout": SMTP_SECONDS}
        if self.is_tls:
            return smtplib.SMTP_SSL(*self.address, context=ssl.create_default_context(), **options)
        return smtplib.SMTP(*self.address, **options)


def written(message: Message, sender: str, now: datetime) -> bytes:
    """The file that a message is in the mailbox."""
    if message.channel == Channel.EMAIL:
        return compose(message, sender, now).as_bytes()
    head = {
        "To": message.address,
        "Date": format_datetime(now),
        "Message-ID": message.message_id,
        "X-Order-Id": str(message.order_id),
        "X-Kind": str(message.kind),
    }
    return ("".join(f"{name}: {value}\n" for name, value in head.items()) + f"\n{message.body}\n").encode()


def compose(message: Message, sender: str, now: datetime) -> EmailMessage:
    """The message as RFC 5322 mail. Raises ValueError when a value would break out of its header."""
    mail = EmailMessage()
    mail["From"] = sender
    mail["To"] = Address(message.name or "", addr_spec=message.address)
    mail["Subject"] = message.subject
    mail["Date"] = now
    mail["Message-ID"] = message.message_id
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Order-Id"] = str(message.order_id)
    mail["X-Kind"] = str(message.kind)
    mail.set_content(message.body)
    return mail


def _refusal(error: smtplib.SMTPRecipientsRefused | smtplib.SMTPDataError) -> Exception:
    """What an answer of the server to this one message means: 5xx for ever, 4xx for now."""
    answers = error.recipients.values() if isinstance(error, smtplib.SMTPRecipientsRefused) else [error.args]
    code = max(int(answer[0]) for answer in answers)
    return Refused(f"the mail server answered {code}") if code >= 500 else _mail_away()


def _mail_away() -> Unavailable:
    return Unavailable("mail_unavailable", "The mail server does not take mail now.", {"retry_after": 5})
