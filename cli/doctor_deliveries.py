"""Whether what was said was heard: every published event at each of its subscribers, every message at its customer.

An event counts as heard when it is in the subscriber's inbox, as a message in the mailbox, or among the dead letters,
which have a check of their own.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from cli.doctor_reading import WITH_EVENTS, Connections, Dossier, Row
from cli.doctor_report import Check, Report
from services.chassis.invariants import ANSWERED_OF, KEPT_DAYS, SENT_ABOUT, SENT_WITHOUT_ORDER, rows
from services.chassis.topology import Subscription
from services.inventory.invariants import PRODUCTS
from services.notifications.invariants import WORTH_A_MESSAGE, is_filed, kind_due, list_filed
from services.notifications.models import Kind
from services.orders.invariants import CATALOGUE

DELIVERED: Final = Check(
    "events.reach_every_subscriber", "Every published event was answered by each subscriber, or is a dead letter."
)
TOLD: Final = Check("notifications.outcome_is_told", "The customer was told of every outcome.")
TRUE: Final = Check("notifications.message_has_its_outcome", "No message tells of what did not happen.")
CURRENT: Final = Check("orders.catalogue_is_current", "Orders are priced by the products' newest versions.")
BATCH: Final = 500
KEPT_SECONDS: Final = timedelta(days=KEPT_DAYS).total_seconds()

Thing = TypeVar("Thing")


@dataclass
class Deliveries:
    """What was published, held against who should have heard of it."""

    subscriptions: Iterable[Subscription]
    quiet_seconds: float
    mailbox: Path | None
    given_up: frozenset[tuple[str, str]] = frozenset()
    """Event and handler of every dead letter."""
    waiting: Mapping[str, int] = field(default_factory=dict)
    """How many messages lie in each queue."""

    def __post_init__(self) -> None:
        self._of: dict[tuple[str, str], list[Subscription]] = defaultdict(list)
        for each in self.subscriptions:
            self._of[each.source, each.event].append(each)

    def examine_order(self, dossier: Dossier, report: Report) -> None:
        """Everything that was published about one order."""
        if dossier.order and dossier.order["pruned"]:
            return
        for service, sent in dossier.sent.items():
            for row in sent:
                if (row["published_age"] or 0) > self.quiet_seconds:
                    self._examine_event(service, row, dossier, report)

    def _examine_event(self, service: str, row: Row, dossier: Dossier, report: Report) -> None:
        event_id = str(row["event_id"])
        for each in self._of[service, row["event_type"]]:
            handler = f"{each.service}.{each.method}"
            if (event_id, handler) in self.given_up:
                continue
            if each.service == "notifications":
                self._examine_message(each, row, report)
            elif (event_id, handler) not in dossier.answered:
                self._complain(each, event_id, dossier.order_id, report)

    def _complain(self, each: Subscription, event_id: str, order_id: str | None, report: Report) -> None:
        about = f" of order {order_id}" if order_id else ""
        text = f"{each.event} {event_id}{about} was published, but {each.service}.{each.method} never answered it"
        row = {"source": each.source, "event_id": event_id, "event_type": each.event, "queue": each.queue}
        report.add(DELIVERED, text + self._hope(each), order_id=order_id, **row, waiting=self._lying(each))

    def _lying(self, each: Subscription) -> int:
        """How many messages wait where this subscriber's are."""
        retries = (count for name, count in self.waiting.items() if name.startswith(f"{each.service}.retry."))
        return self.waiting.get(each.queue, 0) + sum(retries)

    def _hope(self, each: Subscription) -> str:
        lying = self._lying(each)
        return f"; {lying} messages wait in its queues, so it may still come." if lying else "."

    def _examine_message(self, each: Subscription, row: Row, report: Report) -> None:
        kind = kind_due(row["event_type"], row["payload"]) if self.mailbox else None
        if kind is None or self.mailbox is None:
            return
        order_id = str(row["order_id"])
        if not any(is_filed(self.mailbox, order_id, one) for one in dict.fromkeys((kind, *kind.silenced_by))):
            text = f"order {order_id}: {each.event} {row['event_id']} was published, but there is no {kind} mail"
            told = {"source": each.source, "event_id": str(row["event_id"]), "event_type": each.event}
            told |= {"kind": str(kind), "queue": each.queue}
            report.add(TOLD, text + self._hope(each), order_id=order_id, **told, waiting=self._lying(each))

    def examine_products(self, connections: Connections, report: Report) -> None:
        """The events about products, and the copy of the catalogue they keep."""
        for service in WITH_EVENTS:
            sent = rows(connections[service], SENT_WITHOUT_ORDER, quiet_seconds=self.quiet_seconds)
            for batch in batches(sent, BATCH):
                self._examine_batch(service, batch, connections, report)
        report.begin(CURRENT)
        for product, held in versions(connections):
            version = product["product_version"]
            if held < version and product["age"] > self.quiet_seconds:
                about = f"product {product['product_id']} ({product['name']}) is at version {version}"
                text = f"{about}, but orders are priced by version {held}."
                report.add(CURRENT, text, product_id=str(product["product_id"]), held=held, version=version)

    def _examine_batch(self, service: str, batch: list[Row], connections: Connections, report: Report) -> None:
        ids = [str(row["event_id"]) for row in batch]
        answered = {
            (str(row["event_id"]), row["handler"])
            for consumer in WITH_EVENTS
            for row in rows(connections[consumer], ANSWERED_OF, event_ids=ids)
        }
        for row in batch:
            for each in self._of[service, row["event_type"]]:
                key = (str(row["event_id"]), f"{each.service}.{each.method}")
                if key not in answered | self.given_up:
                    self._complain(each, key[0], None, report)

    def examine_mailbox(self, connections: Connections, report: Report) -> None:
        """Whether every message tells of something that happened."""
        if self.mailbox is None:
            report.skip("the mailbox: mails leave by SMTP, or nobody said where it is (MAILBOX_DIR)")
            return
        report.begin(TOLD, TRUE)
        now = time.time()
        recent = (
            (order_id, kind, file)
            for order_id, kind, file in list_filed(self.mailbox)
            if self.quiet_seconds < now - modified(file, now) < KEPT_SECONDS
        )
        for batch in batches(recent, BATCH):
            due = kinds_due({order_id for order_id, _, _ in batch}, connections)
            for order_id, kind, file in batch:
                if (order_id, kind) not in due:
                    text = f"order {order_id}: there is a {kind} message ({file}), but no event that it tells of."
                    report.add(TRUE, text, order_id=order_id, kind=kind, file=str(file))


def versions(connections: Connections) -> Iterator[tuple[Row, int]]:
    """Each product that the copy of the catalogue knows, and the version it holds."""
    copies = rows(connections["orders"], CATALOGUE)
    copy = next(copies, None)
    for product in rows(connections["inventory"], PRODUCTS):
        while copy is not None and copy["product_id"] < product["product_id"]:
            copy = next(copies, None)
        if copy is not None and copy["product_id"] == product["product_id"]:
            yield product, copy["product_version"]


def modified(file: Path, otherwise: float) -> float:
    """When the file was written."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return otherwise


def kinds_due(order_ids: set[str], connections: Connections) -> set[tuple[str, str]]:
    """Order and kind of every message that an event about these orders is worth."""
    wanted = sorted(order_id for order_id in order_ids if is_uuid(order_id))
    found = set()
    for service in WITH_EVENTS:
        for row in rows(connections[service], SENT_ABOUT, order_ids=wanted, with_payload=WORTH_A_MESSAGE):
            kind: Kind | None = kind_due(row["event_type"], row["payload"])
            found.add((str(row["order_id"]), str(kind)))
    return found


def is_uuid(value: str) -> bool:
    """Whether a database would take it for an id."""
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def batches(things: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
    """The things, that many at a time."""
    rest = iter(things)
    while batch := list(islice(rest, size)):
        yield batch
