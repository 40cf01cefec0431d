"""What inventory forgets of its messages, and what it never does."""

from sqlalchemy import text

from events import OrderEvent
from services.chassis.evidence import KEPT
from tests.integration.inventory.bench import InventoryBench, a_cancelled, an_order


def kept_for(inventory: InventoryBench, order: OrderEvent) -> int:
    """How many messages about the order are remembered."""
    query = "SELECT (SELECT count(*) FROM {0} WHERE order_id = :id)"
    ((inbox,),) = inventory.rows(query.format("inbox"), id=str(order.order_id))
    return int(inbox) + len(inventory.outbox(order))


def age(inventory: InventoryBench, order: OrderEvent, *, published: bool = True) -> None:
    """Let everything about the order have happened too long ago to be kept."""
    long_ago = {"id": str(order.order_id), "kept": KEPT}
    with inventory.engine.begin() as connection:
        connection.execute(
            text("UPDATE inbox SET handled_at = now() - :kept - interval '1 day' WHERE order_id = :id"), long_ago
        )
        if published:
            connection.execute(text("UPDATE outbox SET published_at = now() - :kept WHERE order_id = :id"), long_ago)


class TestPruning:
    """The timer that drops old evidence."""

    def test_drops_what_is_over_and_old(self, inventory: InventoryBench) -> None:
        """Both halves at once; the reservation itself stays, and so does its tombstone."""
        order = an_order()
        inventory.deliver(order)
        inventory.deliver(a_cancelled(order))
        age(inventory, order)

        inventory.service().prune()

        assert kept_for(inventory, order) == 0
        assert inventory.status(order) == "released"

    def test_keeps_what_is_young_or_under_way_or_unpublished(self, inventory: InventoryBench) -> None:
        """However old the rest is."""
        young, reserved, waiting, touched = an_order(), an_order(), an_order(), an_order()
        for order in (young, waiting, touched):
            inventory.deliver(order)
            inventory.deliver(a_cancelled(order))
        inventory.deliver(reserved)
        age(inventory, reserved)
        age(inventory, waiting, published=False)
        age(inventory, touched)
        inventory.deliver(a_cancelled(touched))
        before = [kept_for(inventory, order) for order in (young, reserved, waiting, touched)]

        inventory.service().prune()

        assert [kept_for(inventory, order) for order in (young, reserved, waiting, touched)] == before

    def test_drops_old_news_of_products(self, inventory: InventoryBench) -> None:
        """They are about no order."""
        with inventory.engine.begin() as connection:
            connection.execute(
                text("UPDATE outbox SET published_at = now() - :kept - interval '1 day'"), {"kept": KEPT}
            )

        inventory.service().prune()

        assert inventory.outbox() == []
