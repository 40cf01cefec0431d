"""Inventory's entrypoints: the catalogue and its stock over RPC, reservations by events."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from events import OrderCancelledEvent, OrderCreatedEvent, OrderShippedEvent
from services.chassis.auth import Caller
from services.chassis.cache import Cache
from services.chassis.config import Setting, positive, text
from services.chassis.dead_letters import with_dead_letters
from services.chassis.errors import ServiceError
from services.chassis.journey import list_steps
from services.chassis.messaging import event_handler
from services.chassis.probes import Probes
from services.chassis.rpc import rpc
from services.chassis.tags import require_match
from services.chassis.timer import timer
from services.chassis.work import UnitOfWork, Work
from services.inventory.models import Base, Product, answers_to, released
from services.inventory.repository import ProductRepository, ReservationRepository
from services.inventory.schemas import (
    CATALOGUE_VIEW,
    LEDGER_VIEW,
    LIST_QUERY,
    NEW_PRODUCT,
    PRODUCT_CHANGE,
    PRODUCT_QUERY,
    PRODUCT_VIEW,
    STOCK_ADJUSTMENT,
    STOCK_VIEW,
    cut_page,
    read_ledger_cursor,
    read_order_id,
    read_product_cursor,
    read_product_id,
    read_product_ids,
)


@with_dead_letters
class InventoryService:
    """What there is to sell, and for whom it is set aside."""

    name = "inventory"

    begin = UnitOfWork(Base)
    caller = Caller()
    cache = Cache()
    probes = Probes()
    currency = Setting("CURRENCY", text)
    cache_seconds = Setting("PRODUCT_CACHE_SECONDS", positive)

    @event_handler("orders", OrderCreatedEvent)
    def on_order_created(self, event: OrderCreatedEvent, work: Work) -> None:
        """Set every line aside, or none and say which were short."""
        shortages = ReservationRepository(work.session).reserve(event, at=work.now)
        work.publish(*answers_to(event, shortages, at=work.now))

    @event_handler("orders", OrderCancelledEvent)
    def on_order_cancelled(self, event: OrderCancelledEvent, work: Work) -> None:
        """Give back what is set aside, and say so each time it is asked."""
        outcome = ReservationRepository(work.session).cancel(event, at=work.now)
        work.publish(released(event, outcome, at=work.now))

    @event_handler("orders", OrderShippedEvent)
    def on_order_shipped(self, event: OrderShippedEvent, work: Work) -> None:
        """Take what was set aside off the shelf."""
        ReservationRepository(work.session).ship(event, at=work.now)

    @timer(setting="PRUNE_SECONDS")
    def prune(self) -> None:
        """Drop the evidence of orders long over."""
        while self._prune_some():
            pass

    @rpc(expected_exceptions=ServiceError)
    def list_products(self, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of the products on sale, by name; anyone may ask."""
        wanted = PRODUCT_QUERY.read(query)
        limit, after = wanted["limit"], read_product_cursor(wanted["cursor"])
        with self.begin() as work:
            rows = ProductRepository(work.session).list_active(limit=limit + 1, search=wanted["search"], after=after)
        products, cursor = cut_page(rows, limit, lambda product: (product.name, product.id))
        return {"items": PRODUCT_VIEW.show_all(products), "nextCursor": cursor}

    @rpc(expected_exceptions=ServiceError)
    def get_product(self, product_id: str) -> dict[str, Any]:
        """The product, as it was at most a second ago; anyone may ask."""
        wanted = read_product_id(product_id)

        def load() -> dict[str, Any]:
            with self.begin() as work:
                return PRODUCT_VIEW.show(ProductRepository(work.session).get(wanted))

        return self.cache.get_or_load(product_key(wanted), self.cache_seconds, load)

    @rpc(expected_exceptions=ServiceError)
    def create_product(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A new product without stock; for administrators."""
        self.caller.require("admin")
        values = NEW_PRODUCT.read(body)
        with self.begin() as work:
            product = Product.new(values, currency=self.currency, at=work.now)
            ProductRepository(work.session).add(product)
            work.publish(product.changed(at=work.now))
        return PRODUCT_VIEW.show(product)

    @rpc(expected_exceptions=ServiceError)
    def change_product(self, product_id: str, body: Mapping[str, Any], if_match: str | None = None) -> dict[str, Any]:
        """The product with these values taken over; for administrators. Orders placed keep what they were told.

        Raises Conflict when ``if_match`` names another representation than today's.
        """
        self.caller.require("admin")
        wanted, values = read_product_id(product_id), PRODUCT_CHANGE.read(body)
        with self.begin() as work:
            product = ProductRepository(work.session).get_for_update(wanted)
            require_match(if_match, PRODUCT_VIEW.show(product))
            work.publish(*product.change(values, at=work.now))
        self.cache.invalidate(product_key(wanted))
        return PRODUCT_VIEW.show(product)

    @rpc(expected_exceptions=ServiceError)
    def adjust_stock(self, product_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The ledger entry of a change of what is on the shelf; for staff."""
        self.caller.require("staff")
        wanted, change = read_product_id(product_id), STOCK_ADJUSTMENT.read(body)
        with self.begin() as work:
            products = ProductRepository(work.session)
            entry = products.adjust(wanted, **change, actor=self.caller.user_id, at=work.now)
            view = LEDGER_VIEW.show(entry)
        self.cache.invalidate(product_key(wanted))
        return view

    @rpc(expected_exceptions=ServiceError)
    def get_stock(self, product_id: str, query: Mapping[str, str]) -> dict[str, Any]:
        """The levels of a product's stock and a page of its movements, newest first; for staff."""
        self.caller.require("staff")
        wanted, page = read_product_id(product_id), LIST_QUERY.read(query)
        limit, before = page["limit"], read_ledger_cursor(page["cursor"])
        with self.begin() as work:
            products = ProductRepository(work.session)
            product = products.get(wanted)
            rows = products.list_movements(wanted, limit=limit + 1, before=before)
        entries, cursor = cut_page(rows, limit, lambda entry: (entry.number,))
        return {**STOCK_VIEW.show(product), "ledger": LEDGER_VIEW.show_all(entries), "nextCursor": cursor}

    @rpc(expected_exceptions=ServiceError)
    def describe_products(self, product_ids: list[str]) -> list[dict[str, Any]]:
        """What the catalogue says of those of the products that exist, for the orders service's copy."""
        wanted = read_product_ids(product_ids)
        with self.begin() as work:
            return CATALOGUE_VIEW.show_all(ProductRepository(work.session).list_by_ids(wanted))

    @rpc(expected_exceptions=ServiceError)
    def get_journey(self, order_id: str) -> dict[str, Any]:
        """What happened to the order here; nothing for anyone but its customer and staff."""
        wanted = read_order_id(order_id)
        with self.begin() as work:
            owner = ReservationRepository(work.session).find_owner(wanted)
            return {"steps": list_steps(work.session, self.name, wanted) if self.caller.may_see(owner) else []}

    def _prune_some(self) -> bool:
        with self.begin() as work:
            return ReservationRepository(work.session).prune()


def product_key(product_id: UUID) -> str:
    """Where the copy of a product is kept."""
    return f"product:{product_id}"
