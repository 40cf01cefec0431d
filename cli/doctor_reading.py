"""Reading the databases: one read-only snapshot of each, and everything about one order brought together.

Nobody may join two databases in SQL, so each gives its rows in the order of the orders' ids, and they are merged here
as they come: however many orders there are, one of them is in memory at a time.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from cli.trouble import Trouble
from services.chassis.invariants import ANSWERED, SENT, rows
from services.inventory.invariants import RESERVATIONS
from services.notifications.invariants import WORTH_A_MESSAGE
from services.orders.invariants import ORDERS
from services.payments.invariants import BOOK, PAYMENTS

STATEMENT_SECONDS: Final = 60
CONNECT_SECONDS: Final = 10
OPTIONS: Final = (
    "-c default_transaction_read_only=on -c timezone=UTC -c lock_timeout=3000"
    f" -c statement_timeout={STATEMENT_SECONDS * 1000}"
)
WITH_EVENTS: Final = ("orders", "inventory", "payments")
NEVER: Final = float("inf")

Row = Mapping[str, Any]
Connections = Mapping[str, Connection]


@contextmanager
def reading(database_urls: Mapping[str, str]) -> Iterator[Connections]:
    """A read-only connection to each database, all seeing what was committed at nearly the same moment."""
    with ExitStack() as stack:
        connections = {service: stack.enter_context(snapshot(url)) for service, url in database_urls.items()}
        for connection in connections.values():
            connection.execute(text("SELECT 1"))  # a snapshot begins with its first query
        yield connections


@contextmanager
def snapshot(url: str) -> Iterator[Connection]:
    """One database as it is now."""
    arguments = {"options": OPTIONS, "connect_timeout": CONNECT_SECONDS, "application_name": "oms-doctor"}
    engine = create_engine(url, poolclass=NullPool, isolation_level="REPEATABLE READ", connect_args=arguments)
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        raise Trouble(f"PostgreSQL cannot be read: {str(error.orig).strip()}.") from error
    finally:
        engine.dispose()


@dataclass
class Dossier:
    """All that is known of one order; ``order`` is None when orders does not know it."""

    order_id: str
    order: Row | None = None
    reservation: Row | None = None
    payment: Row | None = None
    book: Row | None = None
    sent: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    """The events each service has written about it."""
    answered: set[tuple[str, str]] = field(default_factory=set)
    """The event's id and the handler of every answer."""

    @property
    def age(self) -> float:
        """Seconds since anything about it changed."""
        known = (self.order, self.reservation, self.payment, self.book)
        return min((row["age"] for row in known if row is not None), default=NEVER)

    @property
    def status(self) -> str:
        """Where the order stands; empty when there is none."""
        return str(self.order["status"]) if self.order else ""

    @property
    def charged_cents(self) -> int:
        """What the processor took."""
        return int(self.book["charged_cents"] or 0) if self.book else 0

    @property
    def refunded_cents(self) -> int:
        """What the processor gave back."""
        return int(self.book["refunded_cents"] or 0) if self.book else 0


def dossiers(connections: Connections) -> Iterator[Dossier]:
    """Every order that anybody knows, in the order of their ids."""
    streams = [
        keyed("order", rows(connections["orders"], ORDERS)),
        keyed("reservation", rows(connections["inventory"], RESERVATIONS)),
        keyed("payment", rows(connections["payments"], PAYMENTS)),
        keyed("book", rows(connections["payments"], BOOK)),
    ]
    for service in WITH_EVENTS:
        sent = rows(connections[service], SENT, with_payload=WORTH_A_MESSAGE)
        streams += [keyed(f"sent:{service}", sent), keyed("answered", rows(connections[service], ANSWERED))]
    merged = heapq.merge(*streams, key=lambda entry: entry[0])
    for order_id, entries in groupby(merged, key=lambda entry: entry[0]):
        yield collected(order_id, ((kind, row) for _, kind, row in entries))


def keyed(kind: str, stream: Iterator[Row]) -> Iterator[tuple[str, str, Row]]:
    """Each row with its order's id as text and what it is; UUIDs sort as their text does."""
    for row in stream:
        yield str(row["order_id"]), kind, row


def collected(order_id: str, entries: Iterator[tuple[str, Row]]) -> Dossier:
    """The rows of one order as its dossier."""
    dossier = Dossier(order_id)
    for kind, row in entries:
        if kind == "answered":
            dossier.answered.add((str(row["event_id"]), row["handler"]))
        elif kind.startswith("sent:"):
            dossier.sent[kind.removeprefix("sent:")].append(row)
        else:
            setattr(dossier, kind, row)
    return dossier
