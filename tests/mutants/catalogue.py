"""Every mutant there is."""

from typing import Final

from tests.mutants import delivery, door, inventory, orders, payments

MUTANTS: Final = (*delivery.MUTANTS, *orders.MUTANTS, *inventory.MUTANTS, *payments.MUTANTS, *door.MUTANTS)
