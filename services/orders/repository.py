"""Every query of orders but the saga's own steps, which stand in ``saga_steps.py``."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Row, delete, exists, func, inspect, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import selectinload

from events import ProductChangedEvent
from services.chassis import wire
from services.chassis.auth import Principal
from services.chassis.errors import Conflict, InvalidInput, NotFound
from services.chassis.evidence import drop_of_orders
from services.chassis.inbox import INBOX
from services.chassis.outbox import OUTBOX
from services.chassis.repository import Repository
from services.chassis.schema import bad_cursor, decode_cursor, encode_cursor, read_id
from services.orders.models import Order
from services.orders.tables import HistoryEntry, IdempotencyKey, OrderItem, Product
from services.orders.transitions import OrderStatus, Trigger, sources

DAY: Final = timedelta(days=1)
EVIDENCE: Final = timedelta(days=30)
"""How long an order that is over keeps its outbox and inbox rows."""


_UNSETTLED: Final = or_(Order.stock_settled_at.is_(None), Order.payment_settled_at.is_(None))


class OrderRepository(Repository):
    """Orders with their lines."""

    def add(self, order: Order, deadline_seconds: float) -> None:
        """Insert the order; its deadline is that far from the database's own time."""
        order.deadline_at = func.now() + timedelta(seconds=deadline_seconds)
        self.session.add(order)

    def get(self, order_id: object, visible_to: Principal | None = None) -> Order:
        """The order; raises NotFound when there is none or the caller may not know of it."""
        return self._get(order_id, visible_to, lock=False)

    def get_for_update(self, order_id: object, visible_to: Principal | None = None) -> Order:
        """The same, and nobody else changes it before this transaction ends."""
        return self._get(order_id, visible_to, lock=True)

    def _get(self, order_id: object, visible_to: Principal | None, *, lock: bool) -> Order:
        query = select(Order).where(Order.id == as_order_id(order_id)).options(selectinload(Order.items))
        if visible_to and not visible_to.is_staff:
            query = query.where(Order.user_id == visible_to.user_id)
        if lock:
            query = query.with_for_update(of=Order)
        order = self.session.scalar(query.execution_options(populate_existing=True))
        if order is None:
            raise unknown_order()
        return order

    def list_summaries(self, caller: Principal, wanted: Mapping[str, Any]) -> tuple[Sequence[Row[Any]], str | None]:
        """A page of the orders the caller may see, newest first, and the cursor of the next page, if there is one.

        ``wanted`` is what ``LIST_ORDERS`` has read: limit, cursor, status, begin (included), end (excluded).
        """
        lines = select(func.count()).where(OrderItem.order_id == Order.id).scalar_subquery().label("item_count")
        columns = (Order.id, Order.user_id, Order.status, Order.total_cents, Order.currency, Order.created_at)
        query = (
            select(*columns, lines)
            .where(*_wanted(caller, wanted))
            .order_by(Order.created_at.desc(), Order.id.desc())
            .limit(wanted["limit"] + 1)
        )
        rows = self.session.execute(query).all()
        page = rows[: wanted["limit"]]
        more = len(rows) > len(page)
        return page, encode_cursor([page[-1].created_at, page[-1].id]) if more else None

    def list_overdue(self, limit: int) -> Sequence[Order]:
        """Some Pending orders whose deadline has passed by the database's clock, locked; never one that is locked."""
        overdue = (Order.status.in_(sources(Trigger.DEADLINE)), Order.deadline_at <= func.now())
        return self._claim(*overdue, order_by=Order.deadline_at, limit=limit)

    def list_unsettled(self, first_distance: timedelta, limit: int) -> Sequence[Order]:
        """Some Cancelled orders that are due to be told again what they have not given back, locked likewise."""
        due_at = func.coalesce(Order.next_settlement_at, Order.cancelled_at + first_distance)
        unsettled = (Order.status == OrderStatus.CANCELLED, _UNSETTLED, due_at <= func.now())
        return self._claim(*unsettled, order_by=Order.cancelled_at, limit=limit)

    def _claim(self, *conditions: Any, order_by: Any, limit: int) -> Sequence[Order]:
        query = select(Order).where(*conditions).order_by(order_by).limit(limit)
        return self.session.scalars(query.with_for_update(skip_locked=True, of=Order)).all()

    def count_open(self, user_id: UUID, most: int) -> int:
        """How many Pending orders the user has, counted up to ``most``; without a limit nobody counts.

        Until this transaction ends nobody else who asks gets an answer for this user.
        """
        if not most:
            return 0
        self.session.execute(select(func.pg_advisory_xact_lock(lock_of(["open orders", str(user_id)]))))
        pending = select(Order.id).where(Order.user_id == user_id, Order.status == OrderStatus.PENDING).limit(most)
        return self.session.scalar(select(func.count()).select_from(pending.subquery())) or 0

    def list_history(self, order_id: UUID, after: int = 0) -> Sequence[HistoryEntry]:
        """What happened to the order after the entry with this number, oldest first."""
        later = (HistoryEntry.order_id == order_id, HistoryEntry.number > after)
        return self.session.scalars(select(HistoryEntry).where(*later).order_by(HistoryEntry.number)).all()

    def list_news(self, after: Mapping[UUID, int]) -> dict[UUID, tuple[bool, list[HistoryEntry]]]:
        """Of each of these orders whether it is over, and what happened to it after the entry with this number.

        The orders are read before their histories: one that is over has its last entry by then.
        """
        orders = self.session.scalars(select(Order).where(Order.id.in_(list(after)))).all()
        news: dict[UUID, tuple[bool, list[HistoryEntry]]] = {order.id: (order.over, []) for order in orders}
        moved = [order.id for order in orders if order.version > after[order.id]]
        if moved:
            query = select(HistoryEntry).where(HistoryEntry.order_id.in_(moved)).order_by(HistoryEntry.number)
            for entry in self.session.scalars(query):
                if entry.number > after[entry.order_id]:
                    news[entry.order_id][1].append(entry)
        return news


def _wanted(caller: Principal, wanted: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    conditions = []
    if not caller.is_staff:
        conditions.append(Order.user_id == caller.user_id)
    if wanted["status"]:
        conditions.append(Order.status == wanted["status"])
    if wanted["begin"]:
        conditions.append(Order.created_at >= wanted["begin"])
    if wanted["end"]:
        conditions.append(Order.created_at < wanted["end"])
    if wanted["cursor"]:
        conditions.append(tuple_(Order.created_at, Order.id) < tuple_(*_after(wanted["cursor"])))
    return conditions


def _after(cursor: str) -> tuple[datetime, UUID]:
    created_at, order_id = decode_cursor(cursor, 2)
    try:
        return datetime.fromisoformat(created_at), UUID(order_id)
    except (TypeError, ValueError, AttributeError):
        raise bad_cursor() from None


def as_order_id(order_id: object) -> UUID:
    """The id as a UUID; raises NotFound when it is none, since then no order has it."""
    return read_id(order_id, unknown_order())


def unknown_order() -> NotFound:
    """What somebody hears who asks for an order that is not there, or not theirs."""
    return NotFound("order_not_found", "There is no such order.")


_PRODUCT_COLUMNS: Final = tuple(column.key for column in inspect(Product).column_attrs)


class CatalogueRepository(Repository):
    """The copy of the catalogue."""

    def find_all(self, product_ids: Iterable[UUID]) -> dict[UUID, Product]:
        """Those of the products that the copy knows."""
        query = select(Product).where(Product.product_id.in_(list(product_ids)))
        return {product.product_id: product for product in self.session.scalars(query)}

    def learn(self, products: Iterable[Product | ProductChangedEvent]) -> None:
        """Take over what is said of the products, except where something newer is known."""
        in_order = sorted(products, key=lambda product: product.product_id)  # everybody locks them in this order
        rows = [{name: getattr(product, name) for name in _PRODUCT_COLUMNS} for product in in_order]
        if not rows:
            return
        statement = insert(Product).values(rows)
        newer = Product.product_version < statement.excluded.product_version
        changes = {name: statement.excluded[name] for name in _PRODUCT_COLUMNS if name != "product_id"}
        self.session.execute(statement.on_conflict_do_update(index_elements=["product_id"], set_=changes, where=newer))


@dataclass(frozen=True)
class Request:
    """A request that shall take effect once: what its key is good for, and what it said."""

    user_id: UUID
    method: str
    path: str
    key: str | None
    body: Any

    @property
    def scope(self) -> dict[str, Any]:
        """What the key is unique in, together with the key."""
        return {"user_id": self.user_id, "method": self.method, "path": self.path, "key": self.key}

    @property
    def lock(self) -> int:
        """The advisory lock of the scope. Two scopes that share one only wait for a retry."""
        return lock_of([str(value) for value in self.scope.values()])

    @property
    def fingerprint(self) -> str:
        """The same for the same body, however its members are ordered or its numbers written."""
        return hashlib.sha256(canonical_json(self.body)).hexdigest()


def lock_of(words: Sequence[str]) -> int:
    """The advisory lock that these words stand for: a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(canonical_json(words)).digest()[:8], signed=True)


def canonical_json(value: Any) -> bytes:
    """One text for all JSON texts that mean the same."""

    def number(value: Decimal) -> int | str:
        return int(value) if value == value.to_integral_value() else str(value.normalize())

    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=number).encode()


class IdempotencyRepository(Repository):
    """The first answers to requests that carry a key."""

    def find_answer(self, request: Request) -> dict[str, Any] | None:
        """The first answer to this request, or None when it is the first itself; it then holds its scope until commit.

        Raises Conflict while another is at it, InvalidInput when the key was used for something else.
        """
        if request.key is None:
            return None
        if not self.session.scalar(select(func.pg_try_advisory_xact_lock(request.lock))):
            raise Conflict("idempotency_key_in_use", "A request with this key is under way.", {"retry_after": 1})
        fresh = IdempotencyKey.created_at > func.now() - DAY
        query = select(IdempotencyKey.fingerprint, IdempotencyKey.answer).filter_by(**request.scope).where(fresh)
        first = self.session.execute(query).one_or_none()
        if first is None:
            return None
        if first.fingerprint != request.fingerprint:
            raise InvalidInput("idempotency_key_reused", "This key was used for another request.")
        answer: dict[str, Any] = wire.decode(first.answer)
        return answer

    def keep(self, request: Request, answer: Mapping[str, Any]) -> None:
        """Keep the answer with the commit; nothing without a key."""
        if request.key is None:
            return
        kept = {"fingerprint": request.fingerprint, "answer": wire.encode(answer).decode(), "created_at": func.now()}
        statement = insert(IdempotencyKey).values(**request.scope, **kept)
        self.session.execute(statement.on_conflict_do_update(index_elements=[*request.scope], set_=kept))


class UpkeepRepository(Repository):
    """What is kept for a while only."""

    def prune_evidence(self, limit: int) -> int:
        """Drop the outbox and inbox rows of some orders that were over 30 days ago; of how many.

        Fewer than ``limit`` means that there are no more.
        """
        over = Order.status.in_((OrderStatus.DELIVERED, OrderStatus.CANCELLED)) & Order.pruned_at.is_(None)
        old = Order.updated_at < func.now() - EVIDENCE
        unpublished = exists().where(OUTBOX.c.order_id == Order.id, OUTBOX.c.published_at.is_(None))
        query = select(Order.id).where(over, old, ~(_UNSETTLED & (Order.status == OrderStatus.CANCELLED)), ~unpublished)
        chosen = query.order_by(Order.updated_at).limit(limit).with_for_update(skip_locked=True, of=Order)
        ids = self.session.scalars(chosen).all()
        drop_of_orders(self.session, ids)
        self.session.execute(update(Order).where(Order.id.in_(ids)).values(pruned_at=func.now()))
        return len(ids)

    def prune_keys(self, limit: int) -> int:
        """Drop some idempotency keys that are older than a day; how many."""
        scope = (IdempotencyKey.user_id, IdempotencyKey.method, IdempotencyKey.path, IdempotencyKey.key)
        old = select(*scope).where(IdempotencyKey.created_at < func.now() - DAY).limit(limit)
        return len(
            self.session.execute(
                delete(IdempotencyKey).where(tuple_(*scope).in_(old)).returning(IdempotencyKey.key)
            ).all()
        )

    def prune_changes(self, limit: int) -> int:
        """Drop some inbox rows of old ProductChangedEvents; how many. A repeat is known by its version too."""
        old = select(INBOX.c.event_id, INBOX.c.handler).where(
            INBOX.c.order_id.is_(None), INBOX.c.handled_at < func.now() - EVIDENCE
        )
        mine = tuple_(INBOX.c.event_id, INBOX.c.handler)
        return len(
            self.session.execute(delete(INBOX).where(mine.in_(old.limit(limit))).returning(INBOX.c.event_id)).all()
        )
