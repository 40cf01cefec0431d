"""The door: HTTP in, RPC out. No business, no SQL.

The client's JSON goes to the service as it came, and the service's answer goes back as it came; the services validate,
decide and word every refusal. The gateway knows routes, who may pass without a token, and what HTTP adds: ``Location``,
``ETag``, conditional requests, idempotency keys.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial, wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec
from uuid import UUID

from nameko.exceptions import RemoteError

from services.chassis.auth import Caller
from services.chassis.denials import Denials
from services.chassis.documents import Documents
from services.chassis.errors import Unavailable
from services.chassis.event_streams import EventStreams
from services.chassis.http import PUBLIC, Request, Response, http, idempotency_key, if_match, json_object, reply, tagged
from services.chassis.probes import Probes
from services.chassis.rate_limits import GuessLimit, RateLimit
from services.chassis.rpc_proxy import RpcProxy
from services.chassis.timer import timer

CONTRACT = Documents(
    Path(__file__).with_name("contract"),
    {
        "/openapi.json": "openapi.json",
        "/asyncapi.json": "asyncapi.json",
        "/docs": "docs.html",
        "/docs/events": "events.html",
        "/docs/docs.css": "docs.css",
        "/docs/docs.js": "docs.js",
        "/docs/swagger-ui.css": "swagger-ui/swagger-ui.css",
        "/docs/swagger-ui-bundle.js": "swagger-ui/swagger-ui-bundle.js",
    },
)

PathValues = ParamSpec("PathValues")
Handler = Callable[Concatenate["GatewayService", Request, PathValues], Response]


def signed_in(handler: Handler[PathValues]) -> Handler[PathValues]:
    """The handler for those with a valid token that nobody took back; 401 for everyone else."""

    @wraps(handler)
    def admitted(
        self: "GatewayService", request: Request, /, *args: PathValues.args, **path: PathValues.kwargs
    ) -> Response:
        self.denials.admit(self.caller, self.is_denied)
        return handler(self, request, *args, **path)

    return admitted


class GatewayService:
    """Every public endpoint; those without ``signed_in`` are open to anyone."""

    name = "gateway"

    probes = Probes()
    contract = CONTRACT
    caller = Caller()
    denials = Denials()
    streams = EventStreams()
    registrations = RateLimit("registration", setting="RATE_REGISTRATION")
    logins = RateLimit("login", setting="RATE_LOGIN")
    guesses = GuessLimit("login-failures", setting="RATE_LOGIN_FAILURES", everywhere="RATE_ACCOUNT_FAILURES")
    refreshes = RateLimit("refresh", setting="RATE_REFRESH")
    placed_orders = RateLimit("order", setting="RATE_ORDER")
    users_rpc = RpcProxy("users", "register", "login", "refresh", "logout", "get_me", "change_user", "check_token")
    orders_rpc = RpcProxy(
        "orders",
        "place_order",
        "list_orders",
        "get_order",
        "cancel_order",
        "ship_order",
        "deliver_order",
        "get_journey",
        "list_history",
        "follow_histories",
    )
    inventory_rpc = RpcProxy(
        "inventory",
        "list_products",
        "get_product",
        "create_product",
        "change_product",
        "adjust_stock",
        "get_stock",
        "get_journey",
    )
    payments_rpc = RpcProxy("payments", "get_journey")
    notifications_rpc = RpcProxy("notifications", "get_journey")

    @http("POST", "/api/auth/register")
    def register(self, request: Request) -> Response:
        """A new customer's account with its first tokens."""
        self.registrations.count(request)
        return reply(201, self.users_rpc.register(json_object(request)))

    @http("POST", "/api/auth/login")
    def login(self, request: Request) -> Response:
        """Tokens for an e-mail and its password."""
        self.logins.count(request)
        credentials = json_object(request)
        with self.guesses.watch(request, credentials.get("email")):
            return reply(200, self.users_rpc.login(credentials))

    @http("POST", "/api/auth/refresh")
    def refresh(self, request: Request) -> Response:
        """New tokens for a refresh token, which is spent by that."""
        self.refreshes.count(request)
        return reply(200, self.users_rpc.refresh(json_object(request)))

    @http("POST", "/api/auth/logout")
    @signed_in
    def logout(self, request: Request) -> Response:
        """Nothing more: this token and its refresh family are over."""
        self.users_rpc.logout()
        self.denials.forget(self.caller)
        return reply(204)

    @http("GET", "/api/auth/me")
    @signed_in
    def get_me(self, request: Request) -> Response:
        """The caller's account."""
        return reply(200, self.users_rpc.get_me())

    @http("PATCH", "/api/auth/users/<uuid:user_id>")
    @signed_in
    def change_user(self, request: Request, user_id: UUID) -> Response:
        """The account with its new role or state; admins only."""
        return reply(200, self.users_rpc.change_user(str(user_id), json_object(request)))

    @http("POST", "/api/order")
    @signed_in
    def place_order(self, request: Request) -> Response:
        """The new order, or the one this idempotency key placed before."""
        self.placed_orders.count(request, self.caller.user_id)
        placed = self.orders_rpc.place_order(json_object(request), idempotency_key=idempotency_key(request))
        location = {"Location": f"/api/order/{placed['order']['id']}"}
        return tagged(request, placed["order"], status=201, headers={**location, **_replay(placed)})

    @http("GET", "/api/order")
    @signed_in
    def list_orders(self, request: Request) -> Response:
        """A page of the caller's orders, newest first; of everybody's for staff."""
        return reply(200, self.orders_rpc.list_orders(request.query))

    @http("GET", "/api/order/<uuid:order_id>")
    @signed_in
    def get_order(self, request: Request, order_id: UUID) -> Response:
        """The order as it is now, for its owner and staff."""
        return tagged(request, self.orders_rpc.get_order(str(order_id)))

    @http("POST", "/api/order/<uuid:order_id>/cancel")
    @signed_in
    def cancel_order(self, request: Request, order_id: UUID) -> Response:
        """The order, cancelled; a second cancel changes nothing."""
        body, key = json_object(request, optional=True), idempotency_key(request)
        done = self.orders_rpc.cancel_order(str(order_id), body, idempotency_key=key, **if_match(request))
        return tagged(request, done["order"], headers=_replay(done))

    @http("POST", "/api/order/<uuid:order_id>/ship")
    @signed_in
    def ship_order(self, request: Request, order_id: UUID) -> Response:
        """The order, shipped; staff only."""
        body = json_object(request, optional=True)
        return tagged(request, self.orders_rpc.ship_order(str(order_id), body, **if_match(request)))

    @http("POST", "/api/order/<uuid:order_id>/deliver")
    @signed_in
    def deliver_order(self, request: Request, order_id: UUID) -> Response:
        """The order, delivered; staff only."""
        return tagged(request, self.orders_rpc.deliver_order(str(order_id), **if_match(request)))

    @http("GET", "/api/order/<uuid:order_id>/journey")
    @signed_in
    def get_journey(self, request: Request, order_id: UUID) -> Response:
        """What happened to the order in every service, in the order it happened; who kept silent is in ``missing``."""
        journey = self.orders_rpc.get_journey(str(order_id))  # decides who may see it
        others = {
            "inventory": self.inventory_rpc,
            "payments": self.payments_rpc,
            "notifications": self.notifications_rpc,
        }
        return reply(200, join_journeys(journey, ask_journeys(others, str(order_id))))

    @http("GET", "/api/order/<uuid:order_id>/events")
    @signed_in
    def stream_events(self, request: Request, order_id: UUID) -> Response:
        """What happens to the order, as it happens: server-sent events, those after ``Last-Event-ID``."""
        order = str(order_id)
        return self.streams.answer(request, self.caller, order, partial(self.orders_rpc.list_history, order))

    @timer(setting="EVENTS_POLL_SECONDS")
    def follow_orders(self) -> None:
        """Bring the watched orders' news to their streams, and end those of callers who may not be here any more."""
        self.streams.check(lambda caller: self.denials.admit(caller, self.is_denied))
        self.streams.bring(self.orders_rpc.follow_histories)

    @http("GET", "/api/inventory/products")
    def list_products(self, request: Request) -> Response:
        """A page of the catalogue."""
        return tagged(request, self.inventory_rpc.list_products(request.query), headers={"Cache-Control": PUBLIC})

    @http("GET", "/api/inventory/products/<uuid:product_id>")
    def get_product(self, request: Request, product_id: UUID) -> Response:
        """The product and how many can be bought."""
        product = self.inventory_rpc.get_product(str(product_id))
        return tagged(request, product, headers={"Cache-Control": PUBLIC})

    @http("POST", "/api/inventory/products")
    @signed_in
    def create_product(self, request: Request) -> Response:
        """The new product; admins only."""
        product = self.inventory_rpc.create_product(json_object(request))
        location = {"Location": f"/api/inventory/products/{product['id']}"}
        return tagged(request, product, status=201, headers=location)

    @http("PATCH", "/api/inventory/products/<uuid:product_id>")
    @signed_in
    def change_product(self, request: Request, product_id: UUID) -> Response:
        """The product as changed; admins only."""
        body = json_object(request)
        return tagged(request, self.inventory_rpc.change_product(str(product_id), body, **if_match(request)))

    @http("POST", "/api/inventory/products/<uuid:product_id>/stock")
    @signed_in
    def adjust_stock(self, request: Request, product_id: UUID) -> Response:
        """The ledger's new entry; staff only."""
        return reply(201, self.inventory_rpc.adjust_stock(str(product_id), json_object(request)))

    @http("GET", "/api/inventory/products/<uuid:product_id>/stock")
    @signed_in
    def get_stock(self, request: Request, product_id: UUID) -> Response:
        """The product's levels and a page of its ledger; staff only."""
        return reply(200, self.inventory_rpc.get_stock(str(product_id), request.query))

    def is_denied(self, jti: str) -> bool:
        """Whether the token with this id was taken back, by the word of its owner."""
        return bool(self.users_rpc.check_token(jti)["denied"])


Journey = dict[str, Any]


def ask_journeys(proxies: Mapping[str, Any], order_id: str) -> dict[str, Journey | None]:
    """Each service's part of the order's journey, all asked at once; None for one that gave no answer."""
    calls = {service: _or_none(proxy.get_journey.call_async, order_id) for service, proxy in proxies.items()}
    return {service: call and _or_none(call.result) for service, call in calls.items()}


def join_journeys(journey: Journey, parts: Mapping[str, Journey | None]) -> Journey:
    """One journey with the steps of all, sorted by time, and the silent services in ``missing``."""
    answers: Iterable[Journey] = [journey, *filter(None, parts.values())]
    steps = sorted(
        (step for answer in answers for step in answer["steps"]), key=lambda step: datetime.fromisoformat(step["at"])
    )
    return {**journey, "steps": steps, "missing": [service for service, part in parts.items() if part is None]}


def _or_none(call: Callable[..., Any], *args: str) -> Any:
    try:
        return call(*args)
    except (Unavailable, RemoteError):
        return None


def _replay(outcome: Mapping[str, Any]) -> dict[str, str]:
    return {"Idempotent-Replayed": "true"} if outcome["replayed"] else {}
