"""Mistakes in inventory: how stock is oversold, given back twice or not at all, or waited for in a circle."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

REPOSITORY: Final = "services/inventory/repository.py"
SERVICE: Final = "services/inventory/service.py"
TRANSITIONS: Final = "services/inventory/transitions.py"

SAGA: Final = "tests/integration/inventory/test_inventory_saga.py"
AT_ONCE: Final = f"{SAGA}::TestManyAtOnce"

SORTED: Final = "        ORDER BY products.id\n"
LOCKED: Final = "        FOR NO KEY UPDATE OF products\n"
ASKED: Final = "JOIN products ON products.id = asked.product_id\n"
ITEMS: Final = "JOIN products ON products.id = item.product_id\n"

MUTANTS: Final = (
    Mutant(
        name="unsorted-locks",
        mistake="The products of an order are locked as they come.",
        cost="Two orders with the same two products wait for each other until the database ends one.",
        killer=f"{AT_ONCE}::test_waits_for_the_first_product_with_none_in_hand[reserving]",
        edits=(Edit(REPOSITORY, ASKED + SORTED, ASKED),),
    ),
    Mutant(
        name="unsorted-locks-in-a-release",
        mistake="The products of a cancelled order are locked as they come.",
        cost="As before, between an order and the cancellation of another.",
        killer=f"{AT_ONCE}::test_waits_for_the_first_product_with_none_in_hand[giving back]",
        edits=(Edit(REPOSITORY, ITEMS + SORTED, ITEMS),),
    ),
    Mutant(
        name="stock-read-without-lock",
        mistake="The stock is read, judged and written, and not locked before.",
        cost="The last unit is sold to everybody who looked at the same moment.",
        killer=f"{AT_ONCE}::test_decides_by_the_stock_it_has_locked[5-0-rejected]",
        edits=(Edit(REPOSITORY, ASKED + SORTED + LOCKED, ASKED + SORTED),),
    ),
    Mutant(
        name="condition-asked-of-the-old-row",
        mistake="The update asks once more whether there is enough, of the row as it was before it waited.",
        cost="A line that was refilled meanwhile is not set aside, and the order is charged and sent without it.",
        killer=f"{AT_ONCE}::test_decides_by_the_stock_it_has_locked[0-5-reserved]",
        edits=(
            Edit(
                REPOSITORY,
                "SET on_hand = held.on_hand, reserved = held.reserved + held.quantity\n",
                "SET reserved = products.reserved + held.quantity\n",
            ),
            Edit(
                REPOSITORY,
                "        WHERE products.id = held.id AND (SELECT count(*) FROM short) = 0\n",
                "        WHERE products.id = held.id AND (SELECT count(*) FROM short) = 0\n"
                "          AND products.on_hand - products.reserved >= held.quantity\n",
            ),
        ),
    ),
    Mutant(
        name="no-tombstone-in-inventory",
        mistake="A cancellation of an order that inventory does not know leaves nothing behind.",
        cost="The order that comes after its cancellation takes stock that nobody gives back.",
        killer=f"{SAGA}::TestOrderCreated::test_does_nothing_after_the_cancellation",
        edits=(Edit(REPOSITORY, "if status is None and not self._bury(event, at):", "if status is None:"),),
    ),
    Mutant(
        name="release-not-idempotent",
        mistake="What was given back is given back again when it is told again.",
        cost="What is set aside for somebody else is sold.",
        killer=f"{SAGA}::TestOrderCancelled::test_gives_back_what_was_set_aside_once",
        edits=(
            Edit(
                TRANSITIONS,
                "ReservationStatus.RELEASED: Cell(released=",
                "ReservationStatus.RELEASED: Cell(to=(ReservationStatus.RELEASED,), released=",
            ),
        ),
    ),
    Mutant(
        name="release-only-on-payment-failure",
        mistake="Stock is given back when a payment failed, and for no other reason.",
        cost="Each order that a customer or the deadline cancels takes its stock with it.",
        killer=f"{SAGA}::TestOrderCancelled::test_gives_back_what_was_set_aside_once",
        edits=(
            Edit(
                SERVICE,
                "        outcome = ReservationRepository(work.session).cancel(event, at=work.now)\n",
                '        if event.reason != "payment_failed":\n            return\n'
                "        outcome = ReservationRepository(work.session).cancel(event, at=work.now)\n",
            ),
        ),
    ),
)
