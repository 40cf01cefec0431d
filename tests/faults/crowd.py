"""Many customers at once, each with an account and connections of its own, and what became of all their orders."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import requests

from services.chassis.auth import Principal, issue_token
from tests.support.client import Client, is_for_later
from tests.support.cluster import JWT_SECRET, Cluster
from tests.support.until import eventually

TOKENS: Final = {"JWT_ISSUER": "oms", "JWT_AUDIENCE": "oms-api", "JWT_SECRET": JWT_SECRET}
TOKEN_LIFE: Final = timedelta(minutes=15)
INSIST_SECONDS: Final = 240.0
END_SECONDS: Final = 120.0

Value = TypeVar("Value")

_ACCOUNTS: Final = """
    INSERT INTO users (id, email, password_hash, role, active, created_at, updated_at)
    SELECT id, id || '@example.com', 'none', 'customer', true, now(), now()
    FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, %s)) AS made RETURNING id"""
_ORDERS: Final = """
    SELECT id::text, status, status_reason, payment_status, settlement_attempts,
        (SELECT count(*) FROM order_history AS entry WHERE entry.order_id = orders.id
            AND entry.to_status = 'Cancelled' AND entry.from_status <> 'Cancelled') AS cancelled,
        (SELECT count(*) FROM outbox WHERE outbox.order_id = orders.id
            AND event_type = 'OrderCancelledEvent') AS told
    FROM orders WHERE id = ANY(%s::uuid[])"""
_MONEY: Final = """
    SELECT charge.key AS order_id, charge.amount_cents AS charged, coalesce(refund.amount_cents, 0) AS refunded
    FROM processor.charges AS charge LEFT JOIN processor.refunds AS refund USING (transaction_id)
    WHERE outcome = 'charged' AND charge.key = ANY(%s)"""


def make_crowd(cluster: Cluster, number: int) -> list[Client]:
    """That many new customers; nobody has to hash a password for them."""
    return [signed_in(cluster.url, row["id"]) for row in cluster.rows("users", _ACCOUNTS, number)]


def signed_in(url: str, user_id: UUID, role: str = "customer") -> Client:
    """The owner of that account, with a token that was issued just now."""
    now = datetime.now(UTC)
    token = issue_token(Principal(user_id, role, uuid4(), uuid4(), now + TOKEN_LIFE), now, TOKENS)
    return Client(url, {"token": token, "userId": user_id})


def at_once(calls: Sequence[Callable[[], Value]]) -> list[Value]:
    """What each of them answered; none begins before all are ready."""
    barrier = Barrier(len(calls))

    def begin(call: Callable[[], Value]) -> Value:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


def insist(who: Client, wish: object, key: str = "", *, despite: str = "") -> requests.Response:
    """The answer to an order that is sent again, under the same key, for as long as one is told to come again."""
    headers = {"Idempotency_Key": key or str(uuid4())}
    return ask_until(lambda: who.ask("POST", "/api/order", wish, **headers), despite)


def ask_until(ask: Callable[[], requests.Response], despite: str = "") -> requests.Response:
    """The answer for good; a refusal for now is none, nor is silence, nor an error with the code ``despite``."""

    def look() -> tuple[requests.Response] | None:
        try:
            answer = ask()
        except requests.Timeout:
            return None
        return None if is_for_later(answer, despite) else (answer,)

    (answer,) = eventually(look, "an answer for good", INSIST_SECONDS)
    return answer


def place(who: Client, wish: object, *, despite: str = "") -> str:
    """The id of the new order, whatever it takes."""
    answer = insist(who, wish, despite=despite)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


# --- what became of them


def orders_of(cluster: Cluster, order_ids: Sequence[str]) -> list[dict[str, Any]]:
    """How each order stands, how often it was cancelled and how often that was told."""
    return cluster.rows("orders", _ORDERS, list(order_ids))


def until_ended(cluster: Cluster, order_ids: Sequence[str], seconds: float = END_SECONDS) -> list[dict[str, Any]]:
    """All of the orders as soon as none is Pending any more."""

    def look() -> list[dict[str, Any]] | None:
        found = orders_of(cluster, order_ids)
        assert len(found) == len(set(order_ids))
        return None if any(order["status"] == "Pending" for order in found) else found

    return eventually(look, f"the end of {len(order_ids)} orders", seconds)


def money_of(cluster: Cluster, order_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
    """What the processor took and gave back, of those orders that it charged."""
    rows = cluster.rows("payments", _MONEY, list(order_ids))
    return {row["order_id"]: (row["charged"], row["refunded"]) for row in rows}


def ends(orders: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many ended how: ``Confirmed``, or the reason for which they were cancelled."""
    return Counter(str(order["status_reason"] or order["status"]) for order in orders)


def check_cancelled_once(cluster: Cluster, orders: Sequence[Mapping[str, Any]]) -> None:
    """Every order that is Cancelled became so once and keeps no money; reminders told it again, and nobody else."""
    money = money_of(cluster, [order["id"] for order in orders])
    for order in orders:
        if order["status"] == "Cancelled":
            charged, refunded = money.get(order["id"], (0, 0))
            assert charged == refunded, order
            assert (order["cancelled"], order["told"]) == (1, 1 + order["settlement_attempts"]), order
