"""What faults leave behind, each made to happen, and how it is healed: one story for each.

A story is a generator: it makes the thing happen, yields, and goes on to heal it as the operator's page says. Between
the two the doctor must name all the checks that the story is listed under; after it, nothing at all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.faults.clinic import Clinic

Play = Callable[[Clinic], Iterator[None]]

LETTERS: Final = "broker.no_dead_letters"
UNHEARD: Final = "events.reach_every_subscriber"


@dataclass(frozen=True)
class Story:
    """What happens, which checks name it, and which kinds of dead letters lie there meanwhile."""

    play: Play
    names: tuple[str, ...]
    kinds: tuple[str, ...] = ()


STORIES: Final[dict[str, Story]] = {}

NEVER_LEFT_BEHIND: Final = {
    "broker.answers": "passes by itself as soon as the broker is back",
    "inventory.stock_within_bounds": "a CHECK of the table",
    "inventory.reserved_is_the_sum_of_reservations": "one statement writes both",
    "inventory.on_hand_is_the_sum_of_the_ledger": "one statement writes both",
    "inventory.reserved_is_the_sum_of_the_ledger": "one statement writes both",
    "inventory.units_are_conserved": "one statement writes both",
    "inventory.one_id_per_outcome": "the id follows from order and outcome",
    "orders.total_is_the_sum_of_its_lines": "written once, together",
    "orders.history_ends_in_its_status": "one statement writes both, and a trigger keeps the history",
    "orders.nothing_leaves_a_terminal_state": "the table of transitions, in every update's condition",
    "orders.customer_is_known": "accounts are closed, never deleted; after an older backup the customer registers anew",
    "payments.at_most_one_charge": "the processor's key",
    "payments.at_most_one_refund": "the processor's key",
    "payments.refund_within_its_charge": "the processor refuses it",
    "payments.agree_with_the_processor": "an answer is recorded by whoever asked; an open payment is asked for again",
    "payments.one_id_per_outcome": "the id follows from order and outcome",
}
"""Checks that no fault breaks for long, and why; the doctor's own tests spoil the books, and see each of them named."""


def story(*names: str, kinds: tuple[str, ...] = ()) -> Callable[[Play], Play]:
    """Put the story into the table, under these checks."""

    def enter(play: Play) -> Play:
        STORIES[play.__name__] = Story(play, names, kinds)
        return play

    return enter
