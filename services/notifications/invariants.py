"""What customers must have been told, held against the mailbox: the book of this service, which has no database.

Mail that leaves by SMTP is in no book of ours, so nothing can be said about it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from events import OrderEvent
from services.chassis import wire
from services.notifications.clients import SUFFIXES
from services.notifications.models import NOTICES, Channel, Kind, notice_of

_TOLD: Final = {kind.__name__: kind for kind in NOTICES}
WORTH_A_MESSAGE: Final = sorted(_TOLD)
"""The types of events that a customer may hear of."""


def kind_due(event_type: str, payload: str) -> Kind | None:
    """The kind of message that this event is worth; None when another event's message tells it."""
    event: OrderEvent = wire.build(wire.decode(payload), _TOLD[event_type])
    notice = notice_of(event)
    return notice.kind if notice else None


def is_filed(mailbox: Path, order_id: str, kind: Kind) -> bool:
    """Whether the e-mail of that kind is in the mailbox."""
    return (mailbox / Channel.EMAIL / f"{order_id}.{kind}{SUFFIXES[Channel.EMAIL]}").exists()


def list_filed(mailbox: Path) -> Iterator[tuple[str, str, Path]]:
    """Order, kind and file of every message in the mailbox, in no order."""
    for channel, suffix in SUFFIXES.items():
        for file in (mailbox / channel).glob(f"*{suffix}"):
            order_id, _, kind = file.name.removesuffix(suffix).partition(".")
            yield order_id, kind, file
