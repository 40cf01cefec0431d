"""The real gateway beside made-up services: each call answers what the test can recognise.

The saga's journeys drive the gateway with the real ones; here it is about what HTTP adds to an RPC.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gateway import GatewayService
from services.chassis.errors import NotFound, TimedOut, Unauthenticated, Unavailable
from services.chassis.provider import Provider

KNOWN = "11111111-1111-4111-8111-111111111111"
DENIED = "22222222-2222-4222-8222-222222222222"
AWAY = "33333333-3333-4333-8333-333333333333"
GROWING = "44444444-4444-4444-8444-444444444444"
OVER = "55555555-5555-4555-8555-555555555555"
LEAVING = "66666666-6666-4666-8666-666666666666"
LONG = "77777777-7777-4777-8777-777777777777"
LAST_ENTRY = 4
LONG_HISTORY = 90
ORDERS_STEP = {"at": "2026-01-01T00:00:00Z", "service": "orders"}
INVENTORY_STEP = {"at": "2026-01-01T00:00:00.500000Z", "service": "inventory"}
LATER_STEP = {"at": "2026-01-01T00:00:01Z", "service": "orders"}


def get_order(order_id: str) -> dict[str, Any]:
    """The one order there is."""
    if order_id == AWAY:
        raise Unavailable("service_away", "The service is away.", {"retry_after": 4})
    if order_id not in {KNOWN, GROWING, OVER, LONG}:
        raise NotFound("order_not_found", "There is no such order.")
    return {"id": order_id, "status": "Pending"}


def place_order(body: Any, *, idempotency_key: str | None) -> dict[str, Any]:
    """The order with what was asked for; the key "again" was used before."""
    return {"order": {**get_order(KNOWN), "body": body, "key": idempotency_key}, "replayed": idempotency_key == "again"}


def cancel_order(order_id: str, body: Any, *, idempotency_key: str | None) -> dict[str, Any]:
    """As when it is placed."""
    return {**place_order(body, idempotency_key=idempotency_key), "id": order_id}


ASKED: Counter[str] = Counter()
"""How often each token and each order was asked about."""


def check_token(jti: str) -> dict[str, bool]:
    """One token is denied, and another one once it has been let in."""
    ASKED[jti] += 1
    return {"denied": jti == DENIED or (jti == LEAVING and ASKED[jti] > 1)}


def login(body: Mapping[str, Any]) -> dict[str, Any]:
    """Any password is right, but for the wrong one."""
    if body.get("password") == "wrong":
        raise Unauthenticated("credentials_invalid", "E-mail or password is wrong.")
    return {"id": KNOWN, "called": "users.login", "with": [body]}


def list_history(order_id: str, after: int) -> dict[str, Any]:
    """One entry that stays the only one, or four, of which those of one order come with each look at it.

    Those of another one are more than any socket's buffers hold.
    """
    get_order(order_id)
    if order_id == LONG:
        return {"entries": [{"number": 1 + each, "note": "x" * 200_000} for each in range(LONG_HISTORY)], "over": False}
    entries = {KNOWN: 1, OVER: LAST_ENTRY, GROWING: min(LAST_ENTRY, ASKED[GROWING])}[order_id]
    numbers = range(after + 1, entries + 1)
    return {"entries": [{"number": number, "event": "news"} for number in numbers], "over": entries == LAST_ENTRY}


def follow_histories(after: Mapping[str, int]) -> dict[str, Any]:
    """What is new about each."""
    ASKED.update(after.keys())
    return {order_id: list_history(order_id, number) for order_id, number in after.items()}


def orders_journey(order_id: str) -> dict[str, Any]:
    """What orders knows of the one order."""
    get_order(order_id)
    return {"orderId": order_id, "status": "Pending", "deadline": None, "steps": [LATER_STEP, ORDERS_STEP]}


def silence(*_: Any) -> Any:
    """No answer by the deadline."""
    raise TimedOut("rpc_timed_out", "No answer.")


ANSWERS: dict[str, Callable[..., Any]] = {
    "users.check_token": check_token,
    "users.login": login,
    "orders.list_history": list_history,
    "orders.follow_histories": follow_histories,
    "orders.place_order": place_order,
    "orders.cancel_order": cancel_order,
    "orders.get_order": get_order,
    "orders.get_journey": orders_journey,
    "inventory.get_journey": lambda _: {"steps": [INVENTORY_STEP]},
    "payments.get_journey": silence,
}


class Call:
    """One method of a peer, called in either way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the method answers; without one of its own, what it was called with."""
        if self.name in ANSWERS:
            return ANSWERS[self.name](*args, **kwargs)
        return {"id": KNOWN, "called": self.name, "with": list(args), "named": kwargs}

    def call_async(self, *args: Any) -> "Reply":
        """A reply to wait for; notifications cannot even be asked."""
        if self.name.startswith("notifications."):
            raise Unavailable("broker_away", "The broker does not answer.")
        return Reply(partial(self, *args))


class Reply:
    """What will have been answered."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self.result = answer


class Peer:
    """A service that has every method."""

    def __init__(self, service: str) -> None:
        self.service = service

    def __getattr__(self, method: str) -> Call:
        return Call(f"{self.service}.{method}")


class FakeProxy(Provider[Peer]):
    """Stands where the gateway has its proxy."""

    def __init__(self, service: str) -> None:
        self.peer = Peer(service)

    def get_dependency(self, worker_ctx: Any) -> Peer:
        """The made-up service."""
        return self.peer


PEERS = ("users", "orders", "inventory", "payments", "notifications")
FakedGateway = type("FakedGateway", (GatewayService,), {f"{service}_rpc": FakeProxy(service) for service in PEERS})
