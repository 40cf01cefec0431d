"""What must hold over one database: each invariant is a query for the rows that break it, and a sentence.

The queries of a service stand in its ``invariants.py`` and nowhere else. ``./oms doctor`` and the tests run the same.
They only read. An invariant holds at any instant, or ``when_quiet``: for what nobody has touched for a while, which its
query learns as ``:quiet_seconds``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, text

QUIET_SECONDS: Final = 60.0
KEPT_DAYS: Final = 29
"""Evidence younger than this is there; what is older may have been pruned with its order."""

BATCH: Final = 1000
"""How many rows are in memory at a time."""


@dataclass(frozen=True)
class Invariant:
    """One thing that must hold. ``complaint`` tells of a row that breaks it, with its columns in braces."""

    name: str
    sentence: str
    query: str
    complaint: str
    when_quiet: bool = False


@dataclass(frozen=True)
class Breach:
    """A row that breaks an invariant, and what that means in words."""

    invariant: Invariant
    row: Mapping[str, Any]

    @property
    def text(self) -> str:
        """The sentence for a person, amounts as people write them."""
        return self.invariant.complaint.format(**{name: shown(name, value) for name, value in self.row.items()})


def shown(name: str, value: object) -> str:
    """A column's value as people read it: cents as an amount, nothing as ``none``."""
    if value is None:
        return "none"
    if name.endswith("_cents"):
        return amount(int(str(value)))
    return str(value)


def amount(cents: int) -> str:
    """Cents as an amount with two decimals."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def breaches(
    connection: Connection, invariants: Sequence[Invariant], quiet_seconds: float = QUIET_SECONDS
) -> Iterator[Breach]:
    """Every row that breaks one of them."""
    for invariant in invariants:
        for row in rows(connection, invariant.query, quiet_seconds=quiet_seconds):
            yield Breach(invariant, row)


def rows(connection: Connection, query: str, **values: Any) -> Iterator[Mapping[str, Any]]:
    """The rows of a query, fetched in batches, so that a large table needs little memory."""
    statement = text(query)
    values = {"kept_days": KEPT_DAYS, **values}
    known = {name: value for name, value in values.items() if name in statement.compile().params}
    result = connection.execution_options(stream_results=True, yield_per=BATCH).execute(statement, known)
    for row in result.mappings():
        yield dict(row)


# --- what holds over every outbox

SENT: Final = """
    SELECT order_id, event_id, event_type, published_at IS NOT NULL AS published,
        extract(epoch FROM now() - published_at)::float8 AS published_age,
        CASE WHEN event_type = ANY(:with_payload) THEN payload END AS payload
    FROM outbox WHERE order_id IS NOT NULL
        AND created_at > now() - make_interval(days => :kept_days)
    ORDER BY order_id"""
"""The events of every order, in the order of their orders."""

ANSWERED: Final = "SELECT order_id, event_id, handler FROM inbox WHERE order_id IS NOT NULL ORDER BY order_id"
"""Which handler has answered which event, likewise."""

SENT_WITHOUT_ORDER: Final = """
    SELECT event_id, event_type, extract(epoch FROM now() - published_at)::float8 AS published_age
    FROM outbox WHERE order_id IS NULL AND published_at < now() - make_interval(secs => :quiet_seconds)
        AND created_at > now() - make_interval(days => :kept_days)"""
"""Published events that are about no order."""

ANSWERED_OF: Final = "SELECT event_id, handler FROM inbox WHERE event_id = ANY(CAST(:event_ids AS uuid[]))"
"""Which of these events were answered, and by which handler."""

SENT_ABOUT: Final = """
    SELECT order_id, event_id, event_type, payload FROM outbox
    WHERE order_id = ANY(CAST(:order_ids AS uuid[])) AND event_type = ANY(:with_payload)"""
"""The events of these types about these orders."""


def outbox_is_empty(service: str) -> Invariant:
    """Every committed event reaches the broker within a minute."""
    return Invariant(
        f"{service}.outbox_is_empty",
        f"Every event that {service} has written reached the broker.",
        """
        SELECT order_id, event_id, event_type, created_at, attempts, last_error FROM outbox
        WHERE published_at IS NULL AND created_at < now() - make_interval(secs => :quiet_seconds) ORDER BY id""",
        "{event_type} of order {order_id} waits in the outbox of " + service + " since {created_at}"
        " ({attempts} attempts, last error: {last_error}). It leaves by itself once the service and the broker run.",
        when_quiet=True,
    )


def one_id_per_outcome(service: str, event_types: Sequence[str]) -> Invariant:
    """An outcome that is told again is told under the id it had."""
    listed = ", ".join(f"'{each}'" for each in event_types)
    return Invariant(
        f"{service}.one_id_per_outcome",
        "An outcome has one event id, however often it is told.",
        f"""
        SELECT order_id, event_type, count(DISTINCT event_id) AS ids,
            string_agg(DISTINCT event_id::text, ', ') AS event_ids
        FROM outbox WHERE event_type IN ({listed})
        GROUP BY order_id, event_type HAVING count(DISTINCT event_id) > 1""",  # noqa: S608 - the types are ours
        "order {order_id} has {event_type} under {ids} different ids: {event_ids}.",
    )


def told(service: str, name: str, query: str) -> Invariant:
    """A status has its event: ``query`` yields ``order_id``, ``status``, ``missing`` of those that lack theirs."""
    return Invariant(
        f"{service}.{name}",
        "A status has its event in the outbox.",
        query,
        "order {order_id} is {status} in " + service + ", but there is no {missing} in its outbox.",
    )


def lacks(order_id: str, event_type: str) -> str:
    """The condition that no such event of that order was ever written."""
    return f"NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.order_id = {order_id} AND event_type = '{event_type}')"  # noqa: S608 - both are ours
