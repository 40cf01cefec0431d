"""Orders' service with fakes around it, as its integration tests use it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from nameko.testing.services import worker_factory
from sqlalchemy import select, text
from sqlalchemy.orm import Session, sessionmaker

from events import Event
from services.chassis import wire
from services.chassis.auth import Principal
from services.chassis.errors import Unavailable
from services.chassis.outbox import OUTBOX
from services.chassis.relay import OutboxRelay
from services.chassis.tracing import Trace
from services.chassis.work import Begin, Delivery
from services.orders.models import Order
from services.orders.repository import CatalogueRepository, OrderRepository
from services.orders.service import OrdersService
from services.orders.tables import Product
from tests.support.fakes import Bell
from tests.unit.orders.builders import STAFF, a_product

DEADLINE_SECONDS = 900.0
SETTLEMENT_SECONDS = 300.0


@dataclass
class MemoryCopies:
    """Stands in for Redis: copies are JSON, as there."""

    copies: dict[str, bytes] = field(default_factory=dict)

    def get_or_load(self, key: str, ttl_seconds: float, load: Callable[[], Any]) -> Any:
        """The copy, or what is loaded now."""
        if key not in self.copies:
            self.copies[key] = wire.encode(load())
        return wire.decode(self.copies[key])

    def invalidate(self, *keys: str) -> None:
        """Forget the copies."""
        for key in keys:
            self.copies.pop(key, None)


@dataclass
class FakeInventory:
    """Stands in for inventory over RPC; ``asked`` are the questions it got."""

    products: list[Product] = field(default_factory=list)
    asked: list[Sequence[str]] = field(default_factory=list)
    away: bool = False

    def describe_products(self, product_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Those of the products it knows."""
        self.asked.append(product_ids)
        if self.away:
            raise Unavailable("timed_out", "inventory did not answer in time.")
        return [described(product) for product in self.products if str(product.product_id) in product_ids]


def described(product: Product) -> dict[str, Any]:
    """A product as inventory describes it."""
    names = ("name", "unit_price_cents", "currency", "active", "product_version")
    return {"product_id": str(product.product_id), **{name: getattr(product, name) for name in names}}


class Stage:
    """The service, one instance for each call as Nameko makes them, over one database."""

    def __init__(self, sessions: sessionmaker[Session]) -> None:
        self.sessions = sessions
        self.copies = MemoryCopies()
        self.inventory = FakeInventory()
        self.most_open = 0

    def serve(self, caller: Principal = STAFF) -> OrdersService:
        """The service as this caller meets it."""
        begin = Begin(self.sessions, cast("OutboxRelay", Bell()), Trace("a-request"))
        return cast(
            "OrdersService",
            worker_factory(
                OrdersService,
                begin=begin,
                caller=caller,
                cache=self.copies,
                probes=None,
                inventory_rpc=self.inventory,
                deadline_seconds=DEADLINE_SECONDS,
                settlement_seconds=SETTLEMENT_SECONDS,
                cache_seconds=10.0,
                most_open=self.most_open,
            ),
        )

    def deliver(self, handler: str, event: Event, attempt: int = 1) -> None:
        """Bring an event to a handler, as the broker does."""
        cast("Any", getattr(self.serve(), handler))(Delivery(event, f"orders.{handler}", attempt))

    def stock(self, **changes: Any) -> Product:
        """A product that the copy of the catalogue knows."""
        product = a_product(**changes)
        with self.sessions.begin() as session:
            CatalogueRepository(session).learn([product])
        return product

    def keep(self, order: Order) -> Order:
        """The order, in the database."""
        with self.sessions.begin() as session:
            OrderRepository(session).add(order, DEADLINE_SECONDS)
        return order

    def place(self, customer: Principal, **changes: Any) -> dict[str, Any]:
        """The view of an order that was placed just now."""
        body = {"items": [{"productId": str(self.stock().product_id), "quantity": 2}], **changes}
        order: dict[str, Any] = self.serve(customer).place_order(body)["order"]
        return order

    def load(self, order_id: object) -> Order:
        """The order as it is now, with its lines."""
        with self.sessions() as session:
            return OrderRepository(session).get(order_id)

    def published(self, order_id: UUID) -> list[Mapping[str, Any]]:
        """The payloads in the outbox for an order, in their order."""
        with self.sessions() as session:
            query = select(OUTBOX.c.payload).where(OUTBOX.c.order_id == order_id).order_by(OUTBOX.c.id)
            return [wire.decode(payload) for payload in session.scalars(query)]

    def execute(self, statement: str, **values: Any) -> None:
        """SQL by hand."""
        with self.sessions.begin() as session:
            session.execute(text(statement), values)

    def rows(self, query: str) -> Sequence[Any]:
        """What the database answers."""
        with self.sessions() as session:
            return session.execute(text(query)).all()

    def shift(self, order_id: object, *columns: str, interval: str) -> None:
        """Let these times of an order have been that much earlier."""
        changes = ", ".join(f"{column} = {column} - interval '{interval}'" for column in columns)
        self.execute(f"UPDATE orders SET {changes} WHERE id = :id", id=order_id)  # noqa: S608 - a test's own words
