"""One method for each thing that can be asked of the API."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar, Unpack
from uuid import UUID, uuid4

from oms_client import streams
from oms_client.caller import Caller
from oms_client.errors import NotReached
from oms_client.models import (
    HistoryEntry,
    Journey,
    LedgerEntry,
    Line,
    Order,
    OrderStatus,
    OrderSummary,
    Product,
    ProductChange,
    ProductOptions,
    Role,
    Stock,
    Tokens,
    User,
)
from oms_client.reading import parse, read, write
from oms_client.transport import Answer, Call

Tagged = TypeVar("Tagged", Order, Product)

ORDERS = "/api/order"
PRODUCTS = "/api/inventory/products"
LOOKS_SECONDS = (0.1, 1.0)
"""The first and the longest pause between two looks at an order."""


class Client(Caller):
    """The whole API; ``Client(url)`` is nobody until somebody registers or logs in."""

    # --- accounts

    def register(
        self,
        email: str,
        password: str,
        *,
        first_name: str | None = None,
        last_name: str | None = None,
        phone: str | None = None,
    ) -> Tokens:
        """A new customer's tokens, which the client uses from now on."""
        person = {"email": email, "password": password, "first_name": first_name, "last_name": last_name}
        return self._enter(Call("POST", "/api/auth/register", content=write({**person, "phone": phone}), is_open=True))

    def log_in(self, email: str, password: str) -> Tokens:
        """The tokens of an account, which the client uses from now on."""
        content = write({"email": email, "password": password})
        return self._enter(Call("POST", "/api/auth/login", content=content, is_open=True, is_repeatable=True))

    def log_out(self) -> None:
        """End this login: its tokens are good for nothing any more."""
        if self.tokens:
            self._ask(Call("POST", "/api/auth/logout"))
        self.wallet.keep(None)

    def me(self) -> User:
        """The caller's account."""
        return read(User, self._ask(Call("GET", "/api/auth/me")).document)

    def change_user(self, user_id: UUID, *, role: Role | None = None, active: bool | None = None) -> User:
        """The account with its new role or state; for administrators."""
        return read(User, self._write("PATCH", f"/api/auth/users/{user_id}", role=role, active=active).document)

    # --- orders

    def place_order(
        self,
        lines: Iterable[Line],
        *,
        shipping_address: str | None = None,
        payment_method: str | None = None,
        idempotency_key: str | None = None,
    ) -> Order:
        """The new order. It is placed once however often it had to be sent; a key of one's own outlives this call."""
        body = {"items": list(lines), "shipping_address": shipping_address, "payment_method": payment_method}
        return self._order("POST", ORDERS, content=write(body), headers=_key(idempotency_key))

    def get_order(self, order_id: UUID, *, known: Order | None = None) -> Order:
        """The order as it is now; ``known`` itself when it has not changed since, which saves sending it."""
        return self._get(Order, f"{ORDERS}/{order_id}", known)

    def cancel_order(
        self,
        order_id: UUID,
        *,
        reason: str | None = None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> Order:
        """The order, cancelled. With the ETag that was seen, only if it is still so: else PreconditionFailed."""
        headers = {**_key(idempotency_key), **_match(if_match)}
        return self._order("POST", f"{ORDERS}/{order_id}/cancel", content=write({"reason": reason}), headers=headers)

    def ship_order(self, order_id: UUID, *, tracking: str | None = None, if_match: str | None = None) -> Order:
        """The order, shipped, ``if_match`` as for cancel; for staff. Again is no error."""
        return self._move(f"{ORDERS}/{order_id}/ship", if_match, content=write({"tracking": tracking}))

    def deliver_order(self, order_id: UUID, *, if_match: str | None = None) -> Order:
        """The order, delivered, ``if_match`` as for cancel; for staff. Again is no error."""
        return self._move(f"{ORDERS}/{order_id}/deliver", if_match)

    def orders(
        self,
        *,
        status: OrderStatus | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        page_size: int = 100,
    ) -> Iterator[OrderSummary]:
        """The caller's orders, everybody's for staff, newest first; pages are fetched as they are needed."""
        query = {"limit": page_size, "status": status, "from": since, "to": until}
        return (read(OrderSummary, item) for item in self._items(Call("GET", ORDERS, _texts(query))))

    def journey(self, order_id: UUID) -> Journey:
        """What happened to the order in every service."""
        return read(Journey, self._ask(Call("GET", f"{ORDERS}/{order_id}/journey")).document)

    def wait_for(self, order_id: UUID, until: OrderStatus | Callable[[Order], bool], *, seconds: float = 60.0) -> Order:
        """The order once it has come as far as that status, or once ``until(order)`` is true.

        Raises NotReached after so many seconds, and at once when the order has ended in another status.
        """
        end, pause = self.clock.now() + seconds, LOOKS_SECONDS[0]
        order = self.get_order(order_id)
        while not (order.status.has_reached(until) if isinstance(until, OrderStatus) else until(order)):
            if isinstance(until, OrderStatus) and order.status.is_final:
                raise NotReached(f"The order is {order.status} and will not be {until}.", order)
            if self.clock.now() + pause > end:
                raise NotReached(f"The order is still {order.status} after {seconds:g} s.", order)
            self.clock.sleep(pause)
            pause = min(LOOKS_SECONDS[1], pause * 1.5)
            order = self.get_order(order_id, known=order)
        return order

    def follow(self, order_id: UUID, *, after: int = 0) -> Iterator[HistoryEntry]:
        """The order's history as it happens, to its end; broken connections are made anew where they broke.

        ``after`` is the number of the last entry that is known already.
        """
        connect = partial(self._open, f"{ORDERS}/{order_id}/events")
        reader = streams.Reader(last_id=str(after) if after else "")
        for event in streams.follow(connect, reader, self.settings.retries, self.clock):
            yield read(HistoryEntry, parse(event))

    # --- products and stock

    def products(self, *, search: str | None = None, page_size: int = 100) -> Iterator[Product]:
        """The catalogue; pages are fetched as they are needed."""
        call = Call("GET", PRODUCTS, _texts({"limit": page_size, "q": search}), is_open=True)
        return (read(Product, item) for item in self._items(call))

    def get_product(self, product_id: UUID, *, known: Product | None = None) -> Product:
        """The product as it is now; ``known`` itself when it has not changed since."""
        return self._get(Product, f"{PRODUCTS}/{product_id}", known, is_open=True)

    def create_product(self, name: str, price: Decimal, **more: Unpack[ProductOptions]) -> Product:
        """The new product; for administrators. After a NoAnswer look whether it is there before doing it again."""
        return _tagged(Product, self._write("POST", PRODUCTS, name=name, price=price, **more))

    def change_product(
        self, product_id: UUID, *, if_match: str | None = None, **change: Unpack[ProductChange]
    ) -> Product:
        """The product as changed; for administrators. With the ETag that was seen, only if it is still so."""
        return _tagged(Product, self._write("PATCH", f"{PRODUCTS}/{product_id}", _match(if_match), **change))

    def adjust_stock(self, product_id: UUID, delta: int, reason: str) -> LedgerEntry:
        """The ledger's new entry; for staff. After a NoAnswer look at the ledger before doing it again."""
        return read(
            LedgerEntry, self._write("POST", f"{PRODUCTS}/{product_id}/stock", delta=delta, reason=reason).document
        )

    def stock(self, product_id: UUID) -> Stock:
        """The levels of the product's stock; for staff."""
        return read(Stock, self._ask(Call("GET", f"{PRODUCTS}/{product_id}/stock", {"limit": "1"})).document)

    def ledger(self, product_id: UUID, *, page_size: int = 100) -> Iterator[LedgerEntry]:
        """Every movement of the product's stock, newest first; for staff."""
        call = Call("GET", f"{PRODUCTS}/{product_id}/stock", _texts({"limit": page_size}))
        return (read(LedgerEntry, item) for item in self._items(call, "ledger"))

    # --- how it is asked

    def _write(self, method: str, path: str, headers: Mapping[str, str] | None = None, /, **body: Any) -> Answer:
        return self._ask(Call(method, path, content=write(body), headers=headers or {}))

    def _order(self, method: str, path: str, **more: Any) -> Order:
        return _tagged(Order, self._ask(Call(method, path, **more)))

    def _move(self, path: str, if_match: str | None, **more: Any) -> Order:
        """An order moved on. Moving it again is the same, but with ``if_match`` the second time would be refused."""
        return self._order("POST", path, headers=_match(if_match), is_repeatable=not if_match, **more)

    def _get(self, kind: type[Tagged], path: str, known: Tagged | None, *, is_open: bool = False) -> Tagged:
        headers = {"If-None-Match": known.etag} if known and known.etag else {}
        answer = self._ask(Call("GET", path, headers=headers, is_open=is_open))
        return known if known and answer.status == 304 else _tagged(kind, answer)


def _tagged(kind: type[Tagged], answer: Answer) -> Tagged:
    return replace(read(kind, answer.document), etag=answer.headers.get("ETag"))


def _texts(query: Mapping[str, object]) -> dict[str, str]:
    texts = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in query.items()}
    return {name: str(value) for name, value in texts.items() if value is not None}


def _key(given: str | None) -> dict[str, str]:
    return {"Idempotency-Key": given or str(uuid4())}


def _match(etag: str | None) -> dict[str, str]:
    return {"If-Match": etag} if etag else {}
