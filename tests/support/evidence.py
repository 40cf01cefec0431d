"""What a cluster's databases and mailbox hold about one order."""

import hashlib
from pathlib import Path
from typing import Final

from cli.doctor_reading import WITH_EVENTS
from cli.servers.programs import wait_until
from tests.support.client import Client
from tests.support.cluster import Cluster

MAIL_SECONDS: Final = 20
_TABLES: Final = "SELECT schemaname || '.' || relname AS name FROM pg_stat_user_tables ORDER BY 1"


def mails(cluster: Cluster, order_id: str, channel: str = "email") -> list[str]:
    """The kinds of message about the order, by e-mail or by SMS."""
    return sorted(Path(file).suffixes[0][1:] for file in (cluster.mailbox / channel).glob(f"{order_id}.*"))


def until_mails(cluster: Cluster, order_id: str, *kinds: str) -> None:
    """Wait until exactly these mails were sent about the order."""
    found: list[str] = []

    def are_sent() -> bool:
        found[:] = mails(cluster, order_id)
        return found == sorted(kinds)

    assert wait_until(are_sent, seconds=MAIL_SECONDS), f"{kinds}: not in {MAIL_SECONDS} s, but {found}"


def charge_of(cluster: Cluster, order_id: str) -> list[str]:
    """What the processor's book says of charges for the order."""
    rows = cluster.rows("payments", "SELECT outcome FROM processor.charges WHERE key = %s", order_id)
    return [row["outcome"] for row in rows]


def refunds_of(cluster: Cluster, order_id: str) -> list[int]:
    """What the processor gave back for the order, in cents."""
    query = "SELECT amount_cents FROM processor.refunds WHERE key = %s"
    return [row["amount_cents"] for row in cluster.rows("payments", query, f"{order_id}:refund")]


def movements_of(cluster: Cluster, order_id: str) -> list[tuple[str, int]]:
    """The ledger's rows about the order."""
    query = "SELECT kind, delta FROM ledger WHERE order_id = %s ORDER BY number"
    return [(row["kind"], row["delta"]) for row in cluster.rows("inventory", query, order_id)]


def is_sold_once(cluster: Cluster, admin: Client, product: str, order_id: str) -> None:
    """One of three units sold for good: set aside once, charged once, told once."""
    assert admin.stock(product) == (3, 1)
    assert movements_of(cluster, order_id) == [("reserved", 1)]
    assert charge_of(cluster, order_id) == ["charged"]
    until_mails(cluster, order_id, "confirmation", "receipt")


def fingerprints(cluster: Cluster) -> dict[str, str]:
    """Every table of every database, and every message in the mailbox, as it is now."""
    found = {}
    for service in (*WITH_EVENTS, "users"):
        for table in cluster.rows(service, _TABLES):
            rows = cluster.rows(service, f"SELECT t::text AS row FROM {table['name']} AS t ORDER BY 1")  # noqa: S608 - names of our own tables
            content = "\n".join(row["row"] for row in rows)
            found[f"{service}: {table['name']}"] = hashlib.sha256(content.encode()).hexdigest()
    return found | messages(cluster)


def messages(cluster: Cluster) -> dict[str, str]:
    """Every e-mail and SMS as it was sent."""
    files = [file for channel in ("email", "sms") for file in (cluster.mailbox / channel).iterdir()]
    return {f"mailbox: {file.name}": f"{file.stat().st_mtime_ns} {file.read_bytes()!r}" for file in files}
