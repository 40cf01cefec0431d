"""A small client of the gateway: one person with a token, and the few things tests do over HTTP."""

import secrets
from collections.abc import Mapping
from threading import Event
from typing import Any, Final, Self
from uuid import uuid4

import requests

from cli.readiness import direct_session
from cli.servers.programs import wait_until
from tests.support.until import eventually

TIMEOUT_SECONDS: Final = 15
PASSWORD: Final = "correct horse battery staple"
WAIT_SECONDS: Final = 20.0

Json = dict[str, Any]


class Client:
    """Somebody at the gateway; ``session_of`` is what registering or logging in answered."""

    def __init__(self, url: str, session_of: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.http = direct_session()
        self.user_id = ""
        self.email = ""
        if session_of:
            self.http.headers["Authorization"] = f"Bearer {session_of['token']}"
            self.user_id = str(session_of["userId"])

    @classmethod
    def register(cls, url: str, **fields: str) -> Self:
        """A new customer."""
        email = fields.pop("email", f"{secrets.token_hex(8)}@example.com")
        person = cls(url, cls(url).good("POST", "/api/auth/register", {"email": email, "password": PASSWORD, **fields}))
        person.email = email
        return person

    @classmethod
    def login(cls, url: str, email: str, password: str = PASSWORD) -> Self:
        """Somebody who has an account."""
        person = cls(url, cls(url).good("POST", "/api/auth/login", {"email": email, "password": password}))
        person.email = email
        return person

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> requests.Response:
        """Whatever the gateway answers; a header ``Idempotency_Key`` is sent as ``Idempotency-Key``."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request(method, self.url + path, json=body, headers=sent, timeout=TIMEOUT_SECONDS)

    def good(self, method: str, path: str, body: object = None, **headers: str) -> Json:
        """The document of an answer that must be a good one."""
        return document_of(self.ask(method, path, body, **headers), f"{method} {path}")

    def patiently(self, method: str, path: str, body: object = None, **headers: str) -> Json:
        """As `good`, of what may be asked again: it is, for as long as the cluster is too busy to answer."""

        def look() -> tuple[requests.Response] | None:
            answer = self.ask(method, path, body, **headers)
            return None if is_for_later(answer) else (answer,)

        (answer,) = eventually(look, f"an answer to {method} {path}")
        return document_of(answer, f"{method} {path}")

    # --- the catalogue

    def add_product(self, *, stock: int, price: float = 21.0, name: str = "") -> str:
        """The id of a new product with that many on the shelf; for an administrator."""
        product = {"name": name or f"Thing {secrets.token_hex(4)}", "price": price}
        product_id = str(self.good("POST", "/api/inventory/products", product)["id"])
        if stock:
            self.adjust(product_id, stock)
        return product_id

    def adjust(self, product_id: str, delta: int) -> Json:
        """The ledger entry of a change of stock; for staff."""
        path = f"/api/inventory/products/{product_id}/stock"
        return self.good("POST", path, {"delta": delta, "reason": "test"})

    def stock(self, product_id: str) -> tuple[int, int]:
        """On hand and reserved; for staff."""
        levels = self.patiently("GET", f"/api/inventory/products/{product_id}/stock")
        return levels["onHand"], levels["reserved"]

    # --- orders

    def place(self, *product_ids: str, quantity: int = 1, method: str = "pm_ok", key: str = "") -> str:
        """The id of a new order with that many of each product."""
        wish = a_wish(*product_ids, quantity=quantity, method=method)
        return str(self.patiently("POST", "/api/order", wish, Idempotency_Key=key or str(uuid4()))["id"])

    def order(self, order_id: str) -> Json:
        """The order as it is now."""
        return self.patiently("GET", f"/api/order/{order_id}")

    def cancel(self, order_id: str, reason: str = "") -> Json:
        """The order, cancelled."""
        path, key = f"/api/order/{order_id}/cancel", str(uuid4())
        return self.patiently("POST", path, {"reason": reason}, Idempotency_Key=key)

    def ship(self, order_id: str) -> Json:
        """The order, shipped; for staff."""
        return self.patiently("POST", f"/api/order/{order_id}/ship", {"tracking": "a-parcel"})

    def deliver(self, order_id: str) -> Json:
        """The order, delivered; for staff."""
        return self.patiently("POST", f"/api/order/{order_id}/deliver")

    def journey(self, order_id: str) -> Json:
        """What happened to the order in every service."""
        return self.patiently("GET", f"/api/order/{order_id}/journey")

    def wait_for(self, order_id: str, status: str, seconds: float = WAIT_SECONDS, **fields: object) -> Json:
        """The order once it has this status, and these values of other fields; fails after that many seconds."""
        found: Json = {}

        def is_there() -> bool:
            found.update(self.order(order_id))
            return found["status"] == status and all(found[name] == value for name, value in fields.items())

        assert wait_until(is_there, seconds=seconds), f"not {status} {fields} in {seconds} s: {found}"
        return found


def is_for_later(answer: requests.Response, despite: str = "") -> bool:
    """Whether it is only a refusal for now, which must say when to come again; then it is time to."""
    code = "" if answer.ok else answer.json()["code"]
    if answer.status_code in (503, 504) or code == "idempotency_key_in_use":
        Event().wait(float(answer.headers["Retry-After"]))
        return True
    return bool(code) and code == despite


def document_of(answer: requests.Response, asked: str) -> Json:
    """What a good answer says, if anything."""
    assert answer.ok, f"{asked}: {answer.status_code} {answer.text}"
    document: Json = answer.json() if answer.content else {}
    return document


def a_wish(*product_ids: str, quantity: int = 1, method: str = "pm_ok") -> Json:
    """The body that places an order."""
    items = [{"productId": product_id, "quantity": quantity} for product_id in product_ids]
    return {"items": items, "paymentMethod": method}
