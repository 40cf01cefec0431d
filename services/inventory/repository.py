"""Every query of inventory.

Whoever takes both locks a reservation first and products after it, products in the order of their ids, so that no two
transactions ever wait for each other in a circle. A saga step is one data-modifying statement: the levels after a
movement come out of the update itself, never out of an earlier read.

Such a statement sees a row as it was when the statement began; only what the locking part of it answers is the row as
it is. So reserving decides by what ``held`` says and writes that: a condition in the update itself, or the table's
constraint, would be asked of levels that somebody has changed while the lock was waited for.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from events import OrderCancelledEvent, OrderCreatedEvent, OrderEvent, OrderShippedEvent, ReleaseOutcome, Shortage
from services.chassis import wire
from services.chassis.errors import Conflict, NotFound
from services.chassis.evidence import BATCH, prune_orders, prune_others
from services.chassis.repository import Repository
from services.inventory.models import LedgerEntry, Movement, Product, Reservation
from services.inventory.transitions import TRANSITIONS, ReservationStatus, cell, leading_to

_RESERVE: Final = text(
    """
    WITH asked AS (
        SELECT line.product_id, sum(line.quantity)::bigint AS quantity
        FROM unnest(CAST(:product_ids AS uuid[]), CAST(:quantities AS bigint[])) AS line (product_id, quantity)
        GROUP BY line.product_id
    ), opened AS (
        INSERT INTO reservations (order_id, user_id, status, created_at, updated_at)
        VALUES (:order_id, :user_id, :status, :at, :at)
        ON CONFLICT (order_id) DO NOTHING
        RETURNING order_id
    ), held AS MATERIALIZED (
        SELECT products.id, asked.quantity, products.on_hand, products.reserved,
            products.on_hand - products.reserved AS available
        FROM opened CROSS JOIN asked JOIN products ON products.id = asked.product_id
        ORDER BY products.id
        FOR NO KEY UPDATE OF products
    ), short AS MATERIALIZED (
        SELECT asked.product_id, asked.quantity AS requested, coalesce(held.available, 0) AS available
        FROM opened CROSS JOIN asked LEFT JOIN held ON held.id = asked.product_id
        WHERE coalesce(held.available, 0) < asked.quantity
    ), moved AS (
        UPDATE products SET on_hand = held.on_hand, reserved = held.reserved + held.quantity
        FROM held
        WHERE products.id = held.id AND (SELECT count(*) FROM short) = 0
        RETURNING products.id, held.quantity, products.on_hand, products.reserved
    ), listed AS (
        INSERT INTO reservation_items (order_id, product_id, quantity)
        SELECT CAST(:order_id AS uuid), id, quantity FROM moved
    ), noted AS (
        INSERT INTO ledger
            (product_id, kind, delta, on_hand_after, reserved_after, order_id, event_id, actor, reason, at)
        SELECT id, :kind, quantity, on_hand, reserved, CAST(:order_id AS uuid), CAST(:event_id AS uuid),
            :actor, :reason, :at
        FROM moved
    )
    SELECT (SELECT count(*) FROM opened) AS opened, short.product_id, short.requested, short.available
    FROM (VALUES (1)) AS always LEFT JOIN short ON true
    ORDER BY short.product_id
    """
)

_CLOSE: Final = text(
    """
    WITH closed AS (
        UPDATE reservations SET status = :status, updated_at = :at
        WHERE order_id = :order_id AND status = ANY(:expected)
        RETURNING order_id
    ), held AS MATERIALIZED (
        SELECT products.id, item.quantity
        FROM closed JOIN reservation_items AS item USING (order_id) JOIN products ON products.id = item.product_id
        ORDER BY products.id
        FOR NO KEY UPDATE OF products
    ), moved AS (
        UPDATE products
        SET reserved = products.reserved - held.quantity,
            on_hand = products.on_hand - CASE WHEN :leaves THEN held.quantity ELSE 0 END
        FROM held
        WHERE products.id = held.id
        RETURNING products.id, held.quantity, products.on_hand, products.reserved
    )
    INSERT INTO ledger
        (product_id, kind, delta, on_hand_after, reserved_after, order_id, event_id, actor, reason, at)
    SELECT id, :kind, -quantity, on_hand, reserved, CAST(:order_id AS uuid), CAST(:event_id AS uuid),
        :actor, :reason, :at
    FROM moved
    """
)


class ReservationRepository(Repository):
    """What is set aside for which order."""

    def reserve(self, event: OrderCreatedEvent, *, at: datetime) -> list[Shortage] | None:
        """Set every line aside, or none: the short lines, none when all fit, or None for an order known already."""
        parameters = _movement(event, Movement.RESERVED, "order placed", at) | {
            "user_id": str(event.user_id),
            "status": ReservationStatus.RESERVED,
            "product_ids": [str(line.product_id) for line in event.items],
            "quantities": [line.quantity for line in event.items],
        }
        rows = self.session.execute(_RESERVE, parameters).all()
        if not rows[0].opened:
            return None
        shortages = [Shortage(product_id=row[1], requested=row[2], available=row[3]) for row in rows if row[1]]
        if shortages:
            self._reject(event.order_id, shortages, at)
        return shortages

    def cancel(self, event: OrderCancelledEvent, *, at: datetime) -> ReleaseOutcome:
        """Give back what is set aside, or make sure that nothing ever is, and tell which. Raises Alarm once shipped."""
        status = self._lock_or_bury(event, at)
        move = cell(event, status)
        if ReservationStatus.RELEASED in move.to:
            self._close(event, ReservationStatus.RELEASED, Movement.RELEASED, f"order cancelled: {event.reason}", at)
        return move.released or ReleaseOutcome.NOTHING_RESERVED

    def ship(self, event: OrderShippedEvent, *, at: datetime) -> None:
        """Take what was set aside off the shelf; nothing when that was done. Raises Alarm when nothing is set aside."""
        move = cell(event, self._lock(event.order_id))
        if ReservationStatus.SHIPPED in move.to:
            self._close(event, ReservationStatus.SHIPPED, Movement.SHIPPED, "order shipped", at)

    def prune(self) -> bool:
        """Drop some of the evidence that was kept long enough; whether there may be more."""
        over = select(Reservation.order_id).where(Reservation.status != ReservationStatus.RESERVED)
        return BATCH in {prune_orders(self.session, over), prune_others(self.session)}

    def find_owner(self, order_id: UUID) -> UUID | None:
        """Whose order it is, as far as inventory knows it."""
        return self.session.scalar(select(Reservation.user_id).where(Reservation.order_id == order_id))

    def _reject(self, order_id: UUID, shortages: Sequence[Shortage], at: datetime) -> None:
        listed = wire.decode(wire.encode([asdict(shortage) for shortage in shortages]))
        mine = update(Reservation).where(Reservation.order_id == order_id)
        self.session.execute(mine.values(status=ReservationStatus.REJECTED, shortages=listed, updated_at=at))

    def _lock(self, order_id: UUID) -> ReservationStatus | None:
        query = select(Reservation.status).where(Reservation.order_id == order_id).with_for_update()
        status = self.session.scalar(query)
        return ReservationStatus(status) if status else None

    def _lock_or_bury(self, event: OrderCancelledEvent, at: datetime) -> ReservationStatus | None:
        """The locked status of the order's reservation; None when there was none, and now there is a tombstone."""
        status = self._lock(event.order_id)
        if status is None and not self._bury(event, at):
            return self._lock(event.order_id)  # the order arrived in between, and its insert was waited for
        return status

    def _bury(self, event: OrderCancelledEvent, at: datetime) -> bool:
        (tombstone,) = TRANSITIONS[OrderCancelledEvent][None].to
        row = {"order_id": event.order_id, "user_id": event.user_id, "status": tombstone}
        query = insert(Reservation).values(row | {"created_at": at, "updated_at": at})
        return self.session.scalar(query.on_conflict_do_nothing().returning(Reservation.order_id)) is not None

    def _close(self, event: OrderEvent, status: ReservationStatus, kind: Movement, reason: str, at: datetime) -> None:
        closing = {"status": status, "expected": leading_to(type(event), status), "leaves": kind is Movement.SHIPPED}
        self.session.execute(_CLOSE, _movement(event, kind, reason, at) | closing)


def _movement(event: OrderEvent, kind: Movement, reason: str, at: datetime) -> dict[str, Any]:
    """What the ledger says about a movement that an event caused."""
    return {
        "order_id": str(event.order_id),
        "event_id": str(event.event_id),
        "kind": kind,
        "actor": event.publisher,
        "reason": reason,
        "at": at,
    }


class ProductRepository(Repository):
    """The catalogue and its stock."""

    def add(self, product: Product) -> None:
        """Store a new product."""
        self.session.add(product)

    def get(self, product_id: UUID) -> Product:
        """The product. Raises NotFound."""
        return self._found(select(Product).where(Product.id == product_id))

    def get_for_update(self, product_id: UUID) -> Product:
        """The product, locked until the transaction ends. Raises NotFound."""
        return self._found(select(Product).where(Product.id == product_id).with_for_update(key_share=True))

    def list_active(self, *, limit: int, search: str = "", after: tuple[str, UUID] | None = None) -> Sequence[Product]:
        """Active products whose name or description has the text, by name, from behind ``after`` (name, id) on."""
        query = select(Product).where(Product.active).order_by(Product.name, Product.id).limit(limit)
        if search:
            found = Product.name.icontains(search, autoescape=True)
            query = query.where(found | Product.description.icontains(search, autoescape=True))
        if after:
            query = query.where(tuple_(Product.name, Product.id) > tuple_(*after))
        return self.session.scalars(query).all()

    def list_by_ids(self, product_ids: Sequence[UUID]) -> Sequence[Product]:
        """Those of the products that exist, in the order of their ids."""
        return self.session.scalars(select(Product).where(Product.id.in_(product_ids)).order_by(Product.id)).all()

    def adjust(self, product_id: UUID, delta: int, *, reason: str, actor: UUID, at: datetime) -> LedgerEntry:
        """Change what is on hand and note it. Raises NotFound, or Conflict when less than is set aside would stay."""
        changed = (
            update(Product)
            .where(Product.id == product_id, Product.on_hand + delta >= Product.reserved)
            .values(on_hand=Product.on_hand + delta)
            .returning(Product.on_hand, Product.reserved)
        )
        levels = self.session.execute(changed, execution_options={"synchronize_session": False}).one_or_none()
        if levels is None:
            raise _insufficient(self.get(product_id))
        entry = LedgerEntry(
            product_id=product_id,
            kind=Movement.ADJUSTED,
            delta=delta,
            on_hand_after=levels.on_hand,
            reserved_after=levels.reserved,
            actor=str(actor),
            reason=reason,
            at=at,
        )
        self.session.add(entry)
        self.session.flush()
        return entry

    def list_movements(self, product_id: UUID, *, limit: int, before: int | None = None) -> Sequence[LedgerEntry]:
        """The newest movements of the product's stock, from before the entry with that number on."""
        query = select(LedgerEntry).where(LedgerEntry.product_id == product_id)
        if before is not None:
            query = query.where(LedgerEntry.number < before)
        return self.session.scalars(query.order_by(LedgerEntry.number.desc()).limit(limit)).all()

    def add_received(self, products: Sequence[Product], *, reason: str, actor: str, at: datetime) -> Sequence[Product]:
        """Store those products that do not exist, with their stock as received, and return them."""
        rows = [
            {column.key: getattr(product, column.key) for column in Product.__table__.columns} for product in products
        ]
        query = insert(Product).values(rows).on_conflict_do_nothing().returning(Product.id)
        new = set(self.session.scalars(query))
        added = [product for product in products if product.id in new]
        self.session.add_all(
            LedgerEntry(
                product_id=product.id,
                kind=Movement.RECEIVED,
                delta=product.on_hand,
                on_hand_after=product.on_hand,
                reserved_after=product.reserved,
                actor=actor,
                reason=reason,
                at=at,
            )
            for product in added
            if product.on_hand
        )
        return added

    def _found(self, query: Select[Product]) -> Product:
        product = self.session.scalar(query)
        if product is None:
            raise NotFound("product_not_found", "There is no such product.")
        return product


def _insufficient(product: Product) -> Conflict:
    levels = {"onHand": product.on_hand, "reserved": product.reserved, "available": product.available}
    return Conflict("insufficient_stock", "That would leave less than what is set aside for orders.", levels)
