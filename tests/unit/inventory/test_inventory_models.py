from datetime import UTC, datetime, timedelta

import pytest

from events import InventoryReservationFailedEvent, InventoryReservedEvent, ReleaseOutcome, Shortage
from services.chassis.errors import InvalidInput
from services.inventory.models import Product, answers_to, released
from tests.integration.inventory.bench import LAMP, NOW, a_cancelled, an_order

LATER = NOW + timedelta(minutes=1)


def a_product(**values: object) -> Product:
    """A product as an administrator would write it."""
    return Product.new({"name": "Thing", "unit_price_cents": 1_000, **values}, currency="EUR", at=NOW)


class TestProduct:
    """What the catalogue says."""

    def test_begins_without_stock_and_on_sale(self) -> None:
        """At version one."""
        product = a_product()

        assert (product.on_hand, product.reserved, product.available) == (0, 0, 0)
        assert (product.active, product.description, product.product_version) == (True, "", 1)

    def test_tells_each_change_with_a_greater_version(self) -> None:
        """So that nobody takes an old one for new."""
        product = a_product()

        (changed,) = product.change({"unit_price_cents": 1_200}, at=LATER)

        assert (changed.unit_price_cents, changed.product_version) == (1_200, 2)
        assert product.updated_at == LATER

    def test_tells_nothing_when_nothing_changes(self) -> None:
        """The version stays."""
        product = a_product()

        assert product.change({"name": "Thing", "currency": "EUR"}, at=LATER) == ()
        assert (product.product_version, product.updated_at) == (1, NOW)

    def test_has_the_one_currency_of_the_cluster(self) -> None:
        """Neither a new product nor a change may bring another."""
        with pytest.raises(InvalidInput) as refused:
            a_product(currency="USD")
        with pytest.raises(InvalidInput):
            a_product().change({"currency": "USD"}, at=LATER)

        assert refused.value.extra["errors"][0]["pointer"] == "/currency"


class TestAnswers:
    """What is told of an order's lines."""

    def test_carry_the_order_on(self) -> None:
        """Payments learns from it all that it needs."""
        order = an_order({LAMP: 2})

        (reserved,) = answers_to(order, [], at=NOW)

        assert isinstance(reserved, InventoryReservedEvent)
        assert (reserved.items, reserved.total_cents) == (order.items, 200)
        assert reserved.payment_method == "pm_ok"

    def test_list_every_shortage(self) -> None:
        """And nothing else."""
        short = [Shortage(product_id=LAMP, requested=2, available=1)]

        (failed,) = answers_to(an_order({LAMP: 2}), short, at=NOW)

        assert isinstance(failed, InventoryReservationFailedEvent)
        assert failed.shortages == short

    def test_are_not_repeated(self) -> None:
        """An order that is known already is told nothing."""
        assert answers_to(an_order(), None, at=NOW) == ()

    def test_have_one_id_for_each_outcome_of_an_order(self) -> None:
        """However often and whenever it is told."""
        order = an_order()
        first = released(a_cancelled(order), ReleaseOutcome.RELEASED, at=NOW)

        again = released(a_cancelled(order), ReleaseOutcome.RELEASED, at=datetime.now(UTC))
        other = released(a_cancelled(order), ReleaseOutcome.NOTHING_RESERVED, at=NOW)

        assert first.event_id == again.event_id != other.event_id
