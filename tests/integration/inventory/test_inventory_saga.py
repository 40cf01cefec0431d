from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import text

from events import OrderEvent, outcome_id
from services.chassis import wire
from services.chassis.errors import Alarm
from services.inventory.seed import product_id
from tests.integration.inventory.bench import (
    LAMP,
    NOTEBOOK,
    PRINT,
    TYPEWRITER,
    InventoryBench,
    a_cancelled,
    a_shipped,
    an_order,
)
from tests.support.until import eventually

DESK, MONITOR = product_id("Walnut desk"), product_id("27 inch monitor")
"""The first of the two in the table, in its pages and in the orders here is the second by its id."""

LOCK = text("SELECT id FROM products WHERE id = :id FOR UPDATE SKIP LOCKED")
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class TestOrderCreated:
    """What a new order does to the stock."""

    def test_sets_every_line_aside(self, inventory: InventoryBench) -> None:
        """Lines of one product are added up, and the ledger says who has what."""
        order = an_order({LAMP: 3, NOTEBOOK: 5})

        inventory.deliver(order)

        assert inventory.status(order) == "reserved"
        assert (inventory.levels(LAMP), inventory.levels(NOTEBOOK)) == ((120, 3), (1000, 5))
        assert inventory.outbox(order) == ["InventoryReservedEvent"]
        assert inventory.relay.woken == 1
        inventory.check_books()

    def test_sets_nothing_aside_when_a_line_is_short_and_lists_every_short_one(self, inventory: InventoryBench) -> None:
        """A product nobody knows is short of everything."""
        unknown = uuid4()
        order = an_order({LAMP: 1, TYPEWRITER: 1, PRINT: 2, unknown: 7})

        inventory.deliver(order)

        assert inventory.status(order) == "rejected"
        assert inventory.outbox(order) == ["InventoryReservationFailedEvent"]
        ((payload,),) = inventory.rows("SELECT payload FROM outbox WHERE order_id = :id", id=str(order.order_id))
        short = {
            each["product_id"]: (each["requested"], each["available"]) for each in wire.decode(payload)["shortages"]
        }
        assert short == {str(TYPEWRITER): (1, 0), str(PRINT): (2, 1), str(unknown): (7, 0)}
        assert inventory.levels(LAMP) == (120, 0)
        inventory.check_books()

    def test_does_nothing_when_delivered_twice(self, inventory: InventoryBench) -> None:
        """Neither with the same event id nor with a new one."""
        order = an_order({LAMP: 3})

        inventory.deliver(order)
        inventory.deliver(order, attempt=2)
        inventory.deliver(an_order({LAMP: 3}, order_id=order.order_id, user_id=order.user_id))

        assert inventory.levels(LAMP) == (120, 3)
        assert inventory.outbox(order) == ["InventoryReservedEvent"]

    def test_does_nothing_after_the_cancellation(self, inventory: InventoryBench) -> None:
        """The tombstone stands before the order."""
        order = an_order({LAMP: 3})

        inventory.deliver(a_cancelled(order))
        inventory.deliver(order)

        assert inventory.status(order) == "tombstone"
        assert inventory.levels(LAMP) == (120, 0)
        assert inventory.outbox(order) == ["InventoryReleasedEvent"]


class TestOrderCancelled:
    """What a cancellation gives back."""

    def test_gives_back_what_was_set_aside_once(self, inventory: InventoryBench) -> None:
        """Told again, it is the same event again and moves nothing: not what is set aside for somebody else either."""
        order, other = an_order({LAMP: 3, NOTEBOOK: 1}), an_order({LAMP: 5, NOTEBOOK: 5})
        inventory.deliver(order)
        inventory.deliver(other)
        cancelled = a_cancelled(order)

        inventory.deliver(cancelled)
        inventory.deliver(cancelled, attempt=2)
        inventory.deliver(a_cancelled(order))

        assert inventory.status(order) == "released"
        assert inventory.levels(LAMP) == (120, 5)
        assert (
            self.released_ids(inventory, order) == [outcome_id(order.order_id, "InventoryReleasedEvent:released")] * 2
        )
        inventory.check_books()

    def test_says_that_nothing_was_reserved(self, inventory: InventoryBench) -> None:
        """Of a rejected order as of one that never came."""
        rejected, unknown = an_order({TYPEWRITER: 1}), an_order()
        inventory.deliver(rejected)

        for order in (rejected, rejected, unknown, unknown):
            inventory.deliver(a_cancelled(order))

        for order in (rejected, unknown):
            nothing = outcome_id(order.order_id, "InventoryReleasedEvent:nothing_reserved")
            assert self.released_ids(inventory, order) == [nothing, nothing]

    def test_raises_an_alarm_once_the_goods_have_left(self, inventory: InventoryBench) -> None:
        """And the transaction leaves nothing behind."""
        order = an_order({LAMP: 2})
        inventory.deliver(order)
        inventory.deliver(a_shipped(order))

        with pytest.raises(Alarm):
            inventory.deliver(a_cancelled(order))

        assert inventory.status(order) == "shipped"
        assert inventory.levels(LAMP) == (118, 0)

    def released_ids(self, inventory: InventoryBench, order: OrderEvent) -> list[object]:
        """The ids of the order's InventoryReleased events."""
        query = "SELECT event_id FROM outbox WHERE event_type = 'InventoryReleasedEvent' AND order_id = :id"
        return [row.event_id for row in inventory.rows(query, id=str(order.order_id))]


class TestOrderShipped:
    """What shipping takes off the shelf."""

    def test_takes_it_once(self, inventory: InventoryBench) -> None:
        """On hand and reserved fall together."""
        order = an_order({LAMP: 3})
        inventory.deliver(order)
        shipped = a_shipped(order)

        inventory.deliver(shipped)
        inventory.deliver(shipped, attempt=2)
        inventory.deliver(a_shipped(order))

        assert inventory.levels(LAMP) == (117, 0)
        assert inventory.outbox(order) == ["InventoryReservedEvent"]
        inventory.check_books()

    def test_raises_an_alarm_for_goods_that_are_not_set_aside(self, inventory: InventoryBench) -> None:
        """Of an unknown, a rejected and a cancelled order."""
        unknown, rejected, cancelled = an_order(), an_order({TYPEWRITER: 1}), an_order()
        inventory.deliver(rejected)
        inventory.deliver(cancelled)
        inventory.deliver(a_cancelled(cancelled))

        for order in (unknown, rejected, cancelled):
            with pytest.raises(Alarm):
                inventory.deliver(a_shipped(order))


class TestManyAtOnce:
    """What holds when everybody wants the same."""

    def test_ten_units_have_ten_winners_of_fifty(self, inventory: InventoryBench) -> None:
        """Nobody else holds anything."""
        inventory.rows("SELECT 1")
        with inventory.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE products SET on_hand = 10 WHERE id = '{NOTEBOOK}'")  # noqa: S608 - ours
        orders = [an_order({NOTEBOOK: 1}) for _ in range(50)]

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(inventory.deliver, orders))

        statuses = [inventory.status(order) for order in orders]
        assert (statuses.count("reserved"), statuses.count("rejected")) == (10, 40)
        assert inventory.levels(NOTEBOOK) == (10, 10)

    @pytest.mark.parametrize(("before", "after", "status"), [(0, 5, "reserved"), (5, 0, "rejected")])
    def test_decides_by_the_stock_it_has_locked(
        self, inventory: InventoryBench, before: int, after: int, status: str
    ) -> None:
        """Stock that changes while an order waits for it counts as it is then: every line is set aside, or none."""
        order = an_order({LAMP: 1, TYPEWRITER: 1})
        change = text("UPDATE products SET on_hand = :on_hand WHERE id = :id")
        with inventory.engine.begin() as connection:
            connection.execute(change, {"on_hand": before, "id": TYPEWRITER})

        with ThreadPoolExecutor(1) as pool:
            with inventory.engine.begin() as connection:
                connection.execute(change, {"on_hand": after, "id": TYPEWRITER})
                delivery = pool.submit(inventory.deliver, order)
                eventually(lambda: inventory.rows(WAITING))
            delivery.result()

        aside = 1 if status == "reserved" else 0
        lines = inventory.rows("SELECT 1 FROM reservation_items WHERE order_id = :id", id=str(order.order_id))
        assert (inventory.status(order), len(lines)) == (status, 2 * aside)
        assert (inventory.levels(LAMP), inventory.levels(TYPEWRITER)) == ((120, aside), (after, aside))

    @pytest.mark.parametrize("step", ["reserving", "giving back"])
    def test_waits_for_the_first_product_with_none_in_hand(self, inventory: InventoryBench, step: str) -> None:
        """Products are locked in the order of their ids, wherever they stand, so nobody waits in a circle."""
        order = an_order({DESK: 1, MONITOR: 1})
        if step == "giving back":
            inventory.deliver(order)
        event = order if step == "reserving" else a_cancelled(order)

        with ThreadPoolExecutor(1) as pool:
            with inventory.engine.begin() as holder:
                holder.execute(LOCK, {"id": MONITOR})
                delivery = pool.submit(inventory.deliver, event)
                eventually(lambda: inventory.rows(WAITING))
                with inventory.engine.begin() as passer:
                    free = passer.execute(LOCK, {"id": DESK}).all()
            delivery.result()

        assert free
        assert inventory.status(order) == ("reserved" if step == "reserving" else "released")

    def test_lines_in_opposite_order_never_deadlock(self, inventory: InventoryBench) -> None:
        """Neither when reserving nor when giving back at the same time."""
        there = [an_order({LAMP: 1, NOTEBOOK: 1}) for _ in range(20)]
        back = [an_order({NOTEBOOK: 1, LAMP: 1}) for _ in range(20)]
        orders = [order for pair in zip(there, back, strict=True) for order in pair]

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(inventory.deliver, orders))
            list(pool.map(inventory.deliver, [event for order in orders for event in (order, a_cancelled(order))]))

        assert (inventory.levels(LAMP), inventory.levels(NOTEBOOK)) == ((120, 0), (1000, 0))
        inventory.check_books()

    def test_an_order_and_its_cancellation_at_once_leave_nothing_reserved(self, inventory: InventoryBench) -> None:
        """Whichever comes first."""
        orders = [an_order({LAMP: 1, NOTEBOOK: 2}) for _ in range(30)]
        events = [event for order in orders for event in (order, a_cancelled(order))]

        with ThreadPoolExecutor(12) as pool:
            list(pool.map(inventory.deliver, events))

        assert {inventory.status(order) for order in orders} <= {"released", "tombstone"}
        assert (inventory.levels(LAMP), inventory.levels(NOTEBOOK)) == ((120, 0), (1000, 0))
        inventory.check_books()
