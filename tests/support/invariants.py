"""The invariants of the saga, asked over the four databases, the processor's book and the mailbox.

``INSIDE`` are the queries of the services' own ``invariants.py``; those that hold at any instant are asked. The rest
holds when everything is quiet: it joins what several databases say, in Python, for nobody may join them in SQL.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import events
from services.chassis import wire
from services.chassis.invariants import Breach, Invariant
from services.chassis.topology import Subscription
from services.inventory import invariants as inventory
from services.notifications.models import NOTICES, Kind, notice_of
from services.orders import invariants as orders
from services.payments import invariants as payments

Row = Mapping[str, Any]
Read = Callable[[str, str], Sequence[Row]]
"""``read("orders", query)``: the rows of a query in that service's database."""

INSIDE: Final[Mapping[str, Sequence[Invariant]]] = {
    "orders": orders.INVARIANTS,
    "inventory": inventory.INVARIANTS,
    "payments": payments.INVARIANTS,
}

LIVE: Final = ("Confirmed", "Shipped", "Delivered")
RESERVATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "Confirmed": ("reserved",),
    "Shipped": ("shipped",),
    "Delivered": ("shipped",),
    "Cancelled": ("released", "rejected", "tombstone"),
}
EVIDENCE: Final[Mapping[str, tuple[str, ...]]] = {
    "Pending": ("OrderCreatedEvent",),
    "Confirmed": ("OrderCreatedEvent", "OrderConfirmedEvent"),
    "Shipped": ("OrderCreatedEvent", "OrderConfirmedEvent", "OrderShippedEvent"),
    "Delivered": ("OrderCreatedEvent", "OrderConfirmedEvent", "OrderShippedEvent", "OrderDeliveredEvent"),
    "Cancelled": ("OrderCreatedEvent", "OrderCancelledEvent"),
}
KINDS: Final = {kind.__name__: kind for kind in events.ALL}
WITH_EVENTS: Final = ("orders", "inventory", "payments")

_ORDERS: Final = """
    SELECT id, user_id, status, payment_status, total_cents, deadline_at <= now() AS overdue,
        stock_settled_at IS NOT NULL AND payment_settled_at IS NOT NULL AS settled FROM orders"""
_OUTBOX: Final = "SELECT event_id, event_type, order_id, payload, published_at IS NOT NULL AS published FROM outbox"


@dataclass(frozen=True)
class Books:
    """Everything that the checks of a quiet system read, each table keyed by the order."""

    orders: Mapping[UUID, Row]
    users: frozenset[UUID]
    reservations: Mapping[UUID, str]
    payments: Mapping[UUID, Row]
    charged: Mapping[UUID, int]
    refunded: Mapping[UUID, int]
    published: Mapping[str, Sequence[Row]]
    """The outbox of each service."""
    answered: Mapping[str, frozenset[tuple[UUID, str]]]
    """Event and handler of every inbox row, by service."""
    mails: frozenset[tuple[UUID, str]]
    """Order and kind of every e-mail."""


def read_books(read: Read, mailbox: Path | None) -> Books:
    """What the databases and the mailbox, if there is one, say now."""
    charges = "SELECT key, amount_cents FROM processor.charges WHERE outcome = 'charged'"
    refunds = "SELECT split_part(key, ':', 1) AS key, amount_cents FROM processor.refunds"
    return Books(
        orders=_keyed(read("orders", _ORDERS), "id"),
        users=frozenset(UUID(str(row["id"])) for row in read("users", "SELECT id FROM users")),
        reservations={
            key: row["status"] for key, row in _keyed(read("inventory", "SELECT * FROM reservations")).items()
        },
        payments=_keyed(read("payments", "SELECT order_id, status, amount_cents FROM payments")),
        charged={key: row["amount_cents"] for key, row in _keyed(read("payments", charges), "key").items()},
        refunded={key: row["amount_cents"] for key, row in _keyed(read("payments", refunds), "key").items()},
        published={service: read(service, _OUTBOX) for service in WITH_EVENTS},
        answered={
            service: frozenset(
                (UUID(str(row["event_id"])), str(row["handler"]))
                for row in read(service, "SELECT event_id, handler FROM inbox")
            )
            for service in WITH_EVENTS
        },
        mails=frozenset(_mail(file) for file in (mailbox / "email").glob("*.eml")) if mailbox else frozenset(),
    )


def _keyed(rows: Iterable[Row], name: str = "order_id") -> dict[UUID, Row]:
    return {UUID(str(row[name])): row for row in rows}


def _mail(file: Path) -> tuple[UUID, str]:
    order_id, _, kind = file.stem.partition(".")
    return UUID(order_id), kind


def check_inside(read: Read) -> list[str]:
    """What is wrong inside one database, at any instant."""
    return [
        f"{invariant.name}: {Breach(invariant, row).text}"
        for service, invariants in INSIDE.items()
        for invariant in invariants
        if not invariant.when_quiet
        for row in read(service, invariant.query)
    ]


def check_quiet(books: Books, subscriptions: Iterable[Subscription], given_up: Iterable[tuple[str, str]]) -> list[str]:
    """What is wrong between the databases when nothing is under way; ``given_up`` are dead event ids and handlers."""
    return [*check_books(books, subscriptions, given_up), *_check_mails(books)]


def check_books(
    books: Books, subscriptions: Iterable[Subscription], given_up: Iterable[tuple[str, str]] = ()
) -> list[str]:
    """The same without the mailbox."""
    return [
        *_check_orders(books),
        *_check_orphans(books),
        *_check_evidence(books),
        *_check_deliveries(books, subscriptions, set(given_up)),
    ]


def _check_orders(books: Books) -> Iterator[str]:
    for order_id, order in books.orders.items():
        charged, refunded = books.charged.get(order_id, 0), books.refunded.get(order_id, 0)
        payment = books.payments.get(order_id, {})
        if order["status"] == "Pending":
            yield f"order {order_id} is Pending{' past its deadline' if order['overdue'] else ''}"
            continue
        if books.reservations.get(order_id) not in RESERVATIONS[order["status"]]:
            yield f"order {order_id} is {order['status']}, its reservation {books.reservations.get(order_id)}"
        if order["status"] in LIVE and (payment.get("status"), payment.get("amount_cents"), charged, refunded) != (
            *("captured", order["total_cents"]),
            *(order["total_cents"], 0),
        ):
            yield f"order {order_id} is {order['status']}: {payment}, charged {charged}, refunded {refunded}"
        if order["status"] == "Cancelled" and not (
            charged == refunded and order["settled"] and payment.get("status") in ("voided", "failed", "refunded")
        ):
            yield f"order {order_id} is Cancelled: {payment}, charged {charged}, refunded {refunded}, {order}"


def _check_orphans(books: Books) -> Iterator[str]:
    for name, found in (("reservation", books.reservations), ("payment", books.payments), ("charge", books.charged)):
        yield from (f"{name} without an order: {order_id}" for order_id in found.keys() - books.orders.keys())
    customers = {UUID(str(order["user_id"])) for order in books.orders.values()}
    yield from (f"order of nobody: {user_id}" for user_id in customers - books.users)


def _check_evidence(books: Books) -> Iterator[str]:
    told: dict[UUID, set[str]] = defaultdict(set)
    for row in books.published["orders"]:
        if row["order_id"]:
            told[UUID(str(row["order_id"]))].add(row["event_type"])
    for order_id, order in books.orders.items():
        missing = set(EVIDENCE[order["status"]]) - told[order_id]
        if missing:
            yield f"order {order_id} is {order['status']} without {', '.join(sorted(missing))} in the outbox"


def _check_deliveries(
    books: Books, subscriptions: Iterable[Subscription], given_up: set[tuple[str, str]]
) -> Iterator[str]:
    for service, rows in books.published.items():
        yield from (f"{service}'s outbox still has {row['event_type']}" for row in rows if not row["published"])
    for each in subscriptions:
        handler = f"{each.service}.{each.method}"
        if each.service not in books.answered:
            continue  # its mailbox is its book
        for row in books.published[each.source]:
            event_id = UUID(str(row["event_id"]))
            known = (event_id, handler) in books.answered[each.service] or (str(event_id), handler) in given_up
            if row["event_type"] == each.event and not known:
                yield f"{row['event_type']} {event_id} never reached {handler}"


def _check_mails(books: Books) -> Iterator[str]:
    """Every event that is worth a mail has one, and no mail is about nothing."""
    due: set[tuple[UUID, str]] = set()
    for rows in books.published.values():
        for row in rows:
            event = wire.build(wire.decode(row["payload"]), KINDS[row["event_type"]])
            if not isinstance(event, events.OrderEvent) or type(event) not in NOTICES:
                continue
            notice = notice_of(event)
            if notice:
                due.add((notice.order_id, str(notice.kind)))
    yield from (f"no event for the mail {kind} of {order_id}" for order_id, kind in books.mails - due)
    for order_id, kind in due - books.mails:
        silenced = kind == Kind.CONFIRMATION and (order_id, str(Kind.CLOSING)) in books.mails
        if not silenced:
            yield f"no mail {kind} for {order_id}"
