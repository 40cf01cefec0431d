"""Orders' entrypoints: the customer's and the staff's over RPC, the saga's by events and timers."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

from events import (
    Event,
    InventoryReleasedEvent,
    InventoryReservationFailedEvent,
    OrderCancelledEvent,
    OrderConfirmedEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
    ProductChangedEvent,
)
from services.chassis.auth import Caller
from services.chassis.cache import Cache
from services.chassis.config import Setting, count, positive
from services.chassis.dead_letters import with_dead_letters
from services.chassis.errors import ServiceError
from services.chassis.journey import list_steps
from services.chassis.messaging import event_handler
from services.chassis.metrics import SAGA_SECONDS
from services.chassis.probes import Probes
from services.chassis.rpc import rpc
from services.chassis.rpc_proxy import RpcProxy
from services.chassis.tags import require_match
from services.chassis.timer import timer
from services.chassis.work import UnitOfWork, Work
from services.orders.models import Order, require_room
from services.orders.pricing import Wish
from services.orders.repository import (
    CatalogueRepository,
    IdempotencyRepository,
    OrderRepository,
    Request,
    UpkeepRepository,
    as_order_id,
    unknown_order,
)
from services.orders.saga_steps import SagaSteps, Step
from services.orders.schemas import (
    CANCEL,
    FOLLOW,
    LIST_ORDERS,
    ORDER_SUMMARY,
    ORDER_VIEW,
    PLACE_ORDER,
    PRODUCTS,
    SHIP,
    journey_view,
    news_view,
    read_key,
    view_for,
)
from services.orders.tables import Base, Product
from services.orders.transitions import OrderStatus

FEW: Final = 20
"""How many orders a timer locks at a time, so that nobody waits long for one of them."""

MANY: Final = 500
"""How many rows that nobody waits for are dropped in one transaction."""


@with_dead_letters
class OrdersService:
    """What customers ordered and what became of it."""

    name = "orders"

    begin = UnitOfWork(Base)
    caller = Caller()
    cache = Cache()
    probes = Probes()
    inventory_rpc = RpcProxy("inventory", "describe_products")
    deadline_seconds = Setting("ORDER_DEADLINE_SECONDS", positive)
    settlement_seconds = Setting("SETTLEMENT_FIRST_SECONDS", positive)
    cache_seconds = Setting("ORDER_CACHE_SECONDS", positive)
    most_open = Setting("OPEN_ORDERS_PER_USER", count)

    @rpc(expected_exceptions=ServiceError)
    def place_order(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """``{"order", "replayed"}``: a new Pending order at today's prices, or what the key's first request got.

        Raises InvalidInput for what breaks a rule or cannot be bought, Conflict for a price that is no longer true or
        a key in use, TooMany for somebody with too many Pending orders, Unavailable when only inventory could know a
        product and is away.
        """
        owner_id, wish = self.caller.user_id, PLACE_ORDER.read(body)["wish"]
        request = Request(owner_id, "POST", "/api/order", read_key(idempotency_key), body)
        products = self._find_products(wish)
        with self.begin() as work:
            return self._once(work, request, lambda: self._place(work, wish, products))

    @rpc(expected_exceptions=ServiceError)
    def list_orders(self, query: Mapping[str, str]) -> dict[str, Any]:
        """``{"items", "nextCursor"}``: a page of the caller's orders, of everybody's for staff, newest first."""
        wanted = LIST_ORDERS.read(query)
        with self.begin() as work:
            page, next_cursor = OrderRepository(work.session).list_summaries(self.caller, wanted)
        return {"items": ORDER_SUMMARY.show_all(page), "nextCursor": next_cursor}

    @rpc(expected_exceptions=ServiceError)
    def get_order(self, order_id: str) -> dict[str, Any]:
        """The order, for its owner and for staff; raises NotFound for everybody else."""
        self.caller.require("customer")
        wanted = as_order_id(order_id)
        view = self.cache.get_or_load(order_key(wanted), self.cache_seconds, partial(self._load, wanted))
        if not self.caller.may_see(UUID(view["userId"])):
            raise unknown_order()
        return view_for(self.caller, view)

    @rpc(expected_exceptions=ServiceError)
    def cancel_order(
        self,
        order_id: str,
        body: Mapping[str, Any],
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> dict[str, Any]:
        """``{"order", "replayed"}``: the order, cancelled now or before, for its owner and for staff.

        What it holds is given back by those who hold it. Raises Conflict once it has left the house, or when
        ``if_match`` names another representation than today's.
        """
        caller_id, wanted, note = self.caller.user_id, as_order_id(order_id), CANCEL.read(body)["reason"] or ""
        path = f"/api/order/{wanted}/cancel"
        request = Request(caller_id, "POST", path, read_key(idempotency_key), body)
        with self.begin() as work:
            return self._once(work, request, lambda: self._cancel(work, wanted, note, if_match))

    @rpc(expected_exceptions=ServiceError)
    def ship_order(self, order_id: str, body: Mapping[str, Any], if_match: str | None = None) -> dict[str, Any]:
        """The order, Shipped now or before; for staff. Raises Conflict unless it was Confirmed, or as for cancel."""
        self.caller.require("staff")
        tracking = SHIP.read(body)["tracking"]
        with self.begin() as work:
            order = self._get_known(work, order_id, if_match)
            self._follow(work, Step.of(order, order.ship(self.caller, work.now, tracking)))
        return view_for(self.caller, order)

    @rpc(expected_exceptions=ServiceError)
    def deliver_order(self, order_id: str, if_match: str | None = None) -> dict[str, Any]:
        """The order, Delivered now or before; for staff. Raises Conflict unless it was Shipped, or as for cancel."""
        self.caller.require("staff")
        with self.begin() as work:
            order = self._get_known(work, order_id, if_match)
            self._follow(work, Step.of(order, order.deliver(self.caller, work.now)))
        return view_for(self.caller, order)

    @rpc(expected_exceptions=ServiceError)
    def get_journey(self, order_id: str) -> dict[str, Any]:
        """The order's steps in this service, what it waits for and until when; for its owner and for staff."""
        with self.begin() as work:
            orders = OrderRepository(work.session)
            order = orders.get(order_id, visible_to=self.caller)
            history, messages = orders.list_history(order.id), list_steps(work.session, self.name, order.id)
        return journey_view(order, history, messages)

    @rpc(expected_exceptions=ServiceError)
    def list_history(self, order_id: str, after: int = 0) -> dict[str, Any]:
        """``{"entries", "over"}``: what happened after the entry with this number; for the owner and for staff."""
        with self.begin() as work:
            orders = OrderRepository(work.session)
            order = orders.get(order_id, visible_to=self.caller)
            return news_view(orders.list_history(order.id, after), over=order.over)

    @rpc(expected_exceptions=ServiceError)
    def follow_histories(self, after: dict[str, int]) -> dict[str, Any]:
        """What :meth:`list_history` says, of many orders at once, by id; unknown ones are left out.

        Needs no token: only the gateway may call it, for callers of whom list_history said that they may know.
        """
        wanted = FOLLOW.read({"after": after})["after"]
        with self.begin() as work:
            news = OrderRepository(work.session).list_news(wanted)
        return {str(order_id): news_view(entries, over=over) for order_id, (over, entries) in news.items()}

    @event_handler("payments", PaymentProcessedEvent)
    def on_payment_processed(self, event: PaymentProcessedEvent, work: Work) -> None:
        """Confirm the order that is paid."""
        self._follow(work, SagaSteps(work.session).payment_processed(event, work.now))

    @event_handler("payments", PaymentFailedEvent)
    def on_payment_failed(self, event: PaymentFailedEvent, work: Work) -> None:
        """Cancel the order that could not be paid."""
        self._follow(work, SagaSteps(work.session).payment_failed(event, work.now))

    @event_handler("inventory", InventoryReservationFailedEvent)
    def on_reservation_failed(self, event: InventoryReservationFailedEvent, work: Work) -> None:
        """Cancel the order that the stock could not serve."""
        self._follow(work, SagaSteps(work.session).reservation_failed(event, work.now))

    @event_handler("inventory", InventoryReleasedEvent)
    def on_inventory_released(self, event: InventoryReleasedEvent, work: Work) -> None:
        """Note that the cancelled order holds no stock any more."""
        self._follow(work, SagaSteps(work.session).inventory_released(event, work.now))

    @event_handler("payments", PaymentVoidedEvent)
    def on_payment_voided(self, event: PaymentVoidedEvent, work: Work) -> None:
        """Note that the cancelled order took no money."""
        self._follow(work, SagaSteps(work.session).payment_settled(event, work.now))

    @event_handler("payments", PaymentRefundedEvent)
    def on_payment_refunded(self, event: PaymentRefundedEvent, work: Work) -> None:
        """Note that the cancelled order's money went back."""
        self._follow(work, SagaSteps(work.session).payment_settled(event, work.now))

    @event_handler("inventory", ProductChangedEvent)
    def on_product_changed(self, event: ProductChangedEvent, work: Work) -> None:
        """Price orders by this from now on, unless something newer is known."""
        CatalogueRepository(work.session).learn([event])

    @timer(setting="ORDER_DEADLINE_SWEEP_SECONDS")
    def expire_orders(self) -> None:
        """Cancel every Pending order whose deadline has passed."""
        while self._expire_few() == FEW:
            pass

    @timer(setting="SETTLEMENT_SWEEP_SECONDS")
    def remind_of_settlement(self) -> None:
        """Tell again which orders were cancelled and have not got everything back."""
        while self._remind_few() == FEW:
            pass

    @timer(setting="PRUNE_SECONDS")
    def prune(self) -> None:
        """Drop what has been kept long enough."""
        for drop in (UpkeepRepository.prune_evidence, UpkeepRepository.prune_keys, UpkeepRepository.prune_changes):
            while self._prune_many(drop) == MANY:
                pass

    def _find_products(self, wish: Wish) -> Mapping[UUID, Product]:
        """What the copy of the catalogue knows of these products; inventory is asked once for those it does not."""
        with self.begin() as work:
            known = CatalogueRepository(work.session).find_all(wish.product_ids)
        unknown = [product_id for product_id in wish.product_ids if product_id not in known]
        if not unknown:
            return known
        described = PRODUCTS.load(self.inventory_rpc.describe_products([str(each) for each in unknown]))
        with self.begin() as work:
            catalogue = CatalogueRepository(work.session)
            catalogue.learn(described)
            return catalogue.find_all(wish.product_ids)

    def _once(self, work: Work, request: Request, act: Callable[[], Order]) -> dict[str, Any]:
        """What the request's first time came to; ``act`` runs only if this is it."""
        answers = IdempotencyRepository(work.session)
        first = answers.find_answer(request)
        if first is not None:
            return {"order": first, "replayed": True}
        view = view_for(self.caller, act())
        answers.keep(request, view)
        return {"order": view, "replayed": False}

    def _place(self, work: Work, wish: Wish, products: Mapping[UUID, Product]) -> Order:
        orders = OrderRepository(work.session)
        order, created = Order.place(self.caller, wish.priced(products), work.now)
        require_room(orders.count_open(order.user_id, self.most_open), self.most_open)
        orders.add(order, self.deadline_seconds)
        work.publish(created)
        return order

    def _get_known(self, work: Work, order_id: object, if_match: str | None) -> Order:
        """The order, locked, as the caller knows it if they say what they know."""
        order = OrderRepository(work.session).get_for_update(order_id, visible_to=self.caller)
        require_match(if_match, view_for(self.caller, order))
        return order

    def _cancel(self, work: Work, order_id: UUID, note: str, if_match: str | None) -> Order:
        order = self._get_known(work, order_id, if_match)
        self._follow(work, Step.of(order, order.cancel(self.caller, work.now, note)))
        return order

    def _load(self, order_id: UUID) -> dict[str, Any]:
        with self.begin() as work:
            order = OrderRepository(work.session).get(order_id)
        return ORDER_VIEW.show(order)

    def _follow(self, work: Work, step: Step) -> None:
        """Let everybody know of a step once it is committed."""
        work.publish(*step.events)
        work.after_commit(partial(self.cache.invalidate, order_key(step.order_id)))
        if not step.changed:
            work.note("nothing to do")
        for outcome in filter(None, map(outcome_of, step.events)):
            seconds = (work.now - step.placed_at).total_seconds()
            work.after_commit(partial(SAGA_SECONDS.labels(outcome).observe, seconds))

    def _expire_few(self) -> int:
        with self.begin() as work:
            orders = OrderRepository(work.session).list_overdue(FEW)
            for order in orders:
                self._follow(work, Step.of(order, order.expire(work.now)))
        return len(orders)

    def _remind_few(self) -> int:
        first_distance = timedelta(seconds=self.settlement_seconds)
        with self.begin() as work:
            orders = OrderRepository(work.session).list_unsettled(first_distance, FEW)
            for order in orders:
                work.publish(*order.remind(work.now, first_distance))
        return len(orders)

    def _prune_many(self, drop: Callable[[UpkeepRepository, int], int]) -> int:
        with self.begin() as work:
            return drop(UpkeepRepository(work.session), MANY)


def order_key(order_id: UUID) -> str:
    """The cache's key of an order as everybody sees it, without what one caller may do."""
    return f"order:{order_id}"


def outcome_of(event: Event) -> str | None:
    """How the saga of an order ended, if this event ends it: confirmed, or the reason it was cancelled for."""
    if isinstance(event, OrderConfirmedEvent):
        return "confirmed"
    if isinstance(event, OrderCancelledEvent) and event.cancelled_from == OrderStatus.PENDING:
        return str(event.reason)
    return None
