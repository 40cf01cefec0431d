"""One customer's walk through a cluster whose processes are being stopped: patient at the door, exact about the end."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg2
import redis
import requests

from cli.readiness import direct_session
from tests.support.client import Client, Json
from tests.support.cluster import Cluster
from tests.support.evidence import mails
from tests.support.until import eventually

PATIENCE_SECONDS: Final = 60.0
"""How long anything may take, with processes dying and coming back on a busy machine."""

ANSWER_SECONDS: Final = 7.0
"""A little longer than a call's own deadline: a frozen gateway does not say that it is."""

WITH_SMS: Final = frozenset({"closing", "confirmation", "delivery", "shipping"})
TRY_AGAIN: Final = frozenset({409, 502, 503, 504})


@dataclass(frozen=True)
class Outcome:
    """What all books must say of an order that has come to its end."""

    order: tuple[str, str | None, str]
    """Status, reason, payment status."""
    payment: str
    charges: tuple[str, ...]
    movements: tuple[str, ...]
    mails: tuple[str, ...]
    refunds: int = 0
    is_settled: bool = True
    messages: tuple[str, ...] = field(init=False)
    """The SMS, which go to whoever has a telephone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(kind for kind in self.mails if kind in WITH_SMS))


class Reader:
    """Looks into the databases and the mailbox, on connections of its own. For one thread."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._connections: dict[str, Any] = {}

    def rows(self, service: str, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the service's database says."""
        with self._connection(service).cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall()) if cursor.description else []

    def column(self, service: str, query: str, *values: object) -> tuple[Any, ...]:
        """The first column of that."""
        return tuple(row[0] for row in self.rows(service, query, *values))

    def outcome(self, order_id: str) -> Outcome | None:
        """How the order stands now, if it is known."""
        query = """SELECT status, status_reason, payment_status,
            status <> 'Cancelled' OR num_nulls(stock_settled_at, payment_settled_at) = 0 FROM orders WHERE id = %s"""
        refunds = "SELECT count(*) FROM processor.refunds WHERE key = %s"
        found = self.rows("orders", query, order_id)
        payment = self.column("payments", "SELECT status FROM payments WHERE order_id = %s", order_id)
        if not (found and payment):
            return None
        outcome = Outcome(
            order=found[0][:3],
            payment=payment[0],
            charges=self.column("payments", "SELECT outcome FROM processor.charges WHERE key = %s", order_id),
            refunds=self.column("payments", refunds, f"{order_id}:refund")[0],
            movements=self.column("inventory", "SELECT kind FROM ledger WHERE order_id = %s ORDER BY number", order_id),
            mails=tuple(mails(self.cluster, order_id)),
            is_settled=found[0][3],
        )
        object.__setattr__(outcome, "messages", tuple(mails(self.cluster, order_id, "sms")))
        return outcome

    def close(self) -> None:
        """Let go of the connections."""
        for connection in self._connections.values():
            connection.close()

    def _connection(self, service: str) -> Any:
        if service not in self._connections:
            connection = psycopg2.connect(self.cluster.database_url(service).replace("+psycopg2", "", 1))
            connection.autocommit = True
            self._connections[service] = connection
        return self._connections[service]


@dataclass(frozen=True)
class Lane:
    """Who walks, and what there is to buy: nobody else buys it."""

    customer: Client
    admin: Client
    product: str
    empty: str
    """A product with nothing on the shelf."""


class Walk:
    """What one story does, under the request id ``tag``."""

    def __init__(self, cluster: Cluster, lane: Lane, tag: str) -> None:
        self.cluster = cluster
        self.lane = lane
        self.tag = tag
        self.reader = Reader(cluster)

    # --- over HTTP, until it succeeds

    def place(self, *, product: str = "", method: str = "pm_ok") -> str:
        """The id of a new order."""
        wish = {"items": [{"productId": product or self.lane.product, "quantity": 1}], "paymentMethod": method}
        return str(self.ask(self.lane.customer, "POST", "/api/order", wish, key=secrets.token_hex(8))["id"])

    def cancel(self, order_id: str) -> None:
        """The customer cancels."""
        self.ask(self.lane.customer, "POST", f"/api/order/{order_id}/cancel", {}, key=secrets.token_hex(8))

    def ship(self, order_id: str) -> None:
        """Staff ships."""
        self.ask(self.lane.admin, "POST", f"/api/order/{order_id}/ship", {"tracking": "a-parcel"})

    def deliver(self, order_id: str) -> None:
        """Staff delivers."""
        self.ask(self.lane.admin, "POST", f"/api/order/{order_id}/deliver", {})

    def reprice(self) -> None:
        """The product gets a new price, and orders learns of it."""
        price = round(1 + secrets.randbelow(10_000) / 100, 2)
        self.ask(self.lane.admin, "PATCH", f"/api/inventory/products/{self.lane.product}", {"price": price})
        newest = "SELECT product_version FROM products WHERE id = %s"
        held = "SELECT product_version FROM catalogue WHERE product_id = %s"
        self._until(
            lambda: (
                self.reader.column("orders", held, self.lane.product)
                == self.reader.column("inventory", newest, self.lane.product)
            )
        )

    def ask(self, who: Client, method: str, path: str, body: Json, *, key: str = "") -> Json:
        """What some gateway answers in the end; a repeat carries the same key."""
        headers = dict(who.http.headers) | {"X-Request-Id": self.tag} | ({"Idempotency-Key": key} if key else {})
        answers: list[str] = []

        def answered() -> Json | None:
            for url in self.gateways():
                try:
                    with direct_session() as session:
                        answer = session.request(method, url + path, json=body, headers=headers, timeout=ANSWER_SECONDS)
                except requests.RequestException as error:
                    answers.append(type(error).__name__)
                    continue
                answers.append(f"{answer.status_code} {answer.text[:200]}")
                assert answer.ok or answer.status_code in TRY_AGAIN, answers
                if answer.ok:
                    document: Json = answer.json()
                    return document
            return None

        return eventually(answered, seconds=PATIENCE_SECONDS) or {}

    def gateways(self) -> list[str]:
        """The URLs of all gateways that were started, in an order of this walk's own."""
        running = [name for name in self.cluster.children if name.startswith("gateway") and self.cluster.runs(name)]
        urls = [self.cluster.url_of(name) for name in running]
        return sorted(urls, key=lambda url: hash((url, self.tag)))

    # --- the databases

    def ends(self, order_id: str, outcome: Outcome) -> None:
        """Wait until all books say so of the order; fails with what they say otherwise."""
        found: list[Outcome | None] = [None]

        def has_ended() -> bool:
            found[:] = [self.reader.outcome(order_id)]
            return found == [outcome]

        try:
            self._until(has_ended)
        except AssertionError:
            raise AssertionError(f"order {order_id}: {found[0]}, not {outcome}") from None

    def change(self, service: str, statement: str, *values: object) -> None:
        """Change a database behind its service's back."""
        self.reader.rows(service, statement, *values)

    def until_no_row(self, service: str, query: str, *values: object) -> None:
        """Wait until the query finds nothing."""
        self._until(lambda: not self.reader.rows(service, query, *values))

    def forget_contact(self) -> None:
        """Let notifications forget where the customer is reached."""
        with redis.Redis.from_url(self.cluster.place.endpoints.redis_url) as client:
            client.delete(f"notifications:copy:contact:{self.lane.customer.user_id}")

    def age_messages(self, order_id: str, days: int) -> None:
        """Let what the customer was sent be that old."""
        for file in self.cluster.mailbox.glob(f"*/{order_id}.*"):
            sent_at = file.stat().st_mtime - days * 86_400
            os.utime(file, (sent_at, sent_at))

    @contextmanager
    def processor_away(self, method: str) -> Iterator[None]:
        """While the block runs no charge by this method gets an answer."""
        fault = "INSERT INTO processor.faults (target, call, kind, times) VALUES (%s, 'charge', 'fail', 100)"
        self.change("payments", fault, method)
        try:
            yield
        finally:
            self.change("payments", "DELETE FROM processor.faults WHERE target = %s", method)

    @staticmethod
    def _until(condition: Callable[[], bool]) -> None:
        eventually(condition, seconds=PATIENCE_SECONDS)


def new_lane(cluster: Cluster, admin: Client) -> Lane:
    """A new customer with a telephone, and two products."""
    customer = Client.register(cluster.url, firstName="Grace", phone="+4915112345679")
    return Lane(customer, admin, admin.add_product(stock=1000), admin.add_product(stock=0))
