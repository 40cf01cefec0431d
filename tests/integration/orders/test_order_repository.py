from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from uuid import UUID, uuid4

import pytest
from alembic import command
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from time_machine import travel

from services.chassis.errors import InvalidInput, NotFound
from services.chassis.migrations import configuration
from services.orders.models import Order
from services.orders.repository import CatalogueRepository, OrderRepository
from services.orders.schemas import LIST_ORDERS
from services.orders.transitions import OrderStatus
from tests.integration.orders.stage import Stage
from tests.support.fakes import a_caller
from tests.unit.orders.builders import LATER, STAFF, a_line, a_product, an_order, payment_voided

FIRST = timedelta(minutes=5)


class TestSchema:
    """The database of orders."""

    def test_is_what_the_models_say(self, engine: Engine) -> None:
        """A migration is missing when this fails."""
        command.check(configuration("orders", engine.url.render_as_string(hide_password=False)))

    @pytest.mark.parametrize("statement", ["UPDATE order_history SET note = ''", "DELETE FROM order_history"])
    def test_lets_nobody_rewrite_history(self, stage: Stage, statement: str) -> None:
        """Append-only, whoever asks."""
        stage.keep(an_order())

        with pytest.raises(DBAPIError, match="append-only"):
            stage.execute(statement)

    @pytest.mark.parametrize(
        "change",
        [
            "status = 'Lost'",
            "payment_status = 'Maybe'",
            "total_cents = -1",
            "currency = 'euro'",
            "status = 'Confirmed'",
            "status = 'Cancelled'",
            "status_reason = 'customer'",
            "stock_settled_at = now()",
        ],
    )
    def test_refuses_what_no_order_may_be(self, stage: Stage, change: str) -> None:
        """The invariants hold without the model too."""
        stage.keep(an_order())

        with pytest.raises(IntegrityError):
            stage.execute(f"UPDATE orders SET {change}")  # noqa: S608 - a test's own words


class TestGetting:
    """One order."""

    def test_shows_an_order_to_its_owner_and_to_staff_only(self, stage: Stage) -> None:
        """To everybody else it is not there."""
        owner = a_caller()
        order = stage.keep(an_order(owner=owner))

        with stage.sessions() as session:
            orders = OrderRepository(session)

            assert orders.get_for_update(order.id, visible_to=owner).id == order.id
            assert orders.get_for_update(str(order.id), visible_to=STAFF).id == order.id
            with pytest.raises(NotFound):
                orders.get_for_update(order.id, visible_to=a_caller())

    @pytest.mark.parametrize("order_id", ["", "x", "1", None, "0" * 40])
    def test_knows_no_order_of_what_is_no_id(self, session: Session, order_id: object) -> None:
        """As unknown as any other."""
        with pytest.raises(NotFound):
            OrderRepository(session).get(order_id)


class TestListing:
    """Pages of orders."""

    def pages(self, session: Session, limit: int, **query: str) -> Iterator[list[UUID]]:
        """Every page's ids, as staff sees them."""
        cursor: dict[str, str] = {}
        while True:
            wanted = LIST_ORDERS.read({"limit": str(limit), **query, **cursor})
            page, following = OrderRepository(session).list_summaries(STAFF, wanted)
            yield [row.id for row in page]
            if following is None:
                return
            cursor = {"cursor": following}

    def test_is_complete_and_newest_first(self, stage: Stage) -> None:
        """No order twice, none left out, though some were placed in the same instant."""
        orders = [stage.keep(an_order()) for _ in range(7)]
        stage.shift(orders[3].id, "created_at", interval="1 day")
        expected = sorted((order.id for order in orders if order is not orders[3]), reverse=True)

        with stage.sessions() as session:
            pages = list(self.pages(session, 3))

        assert [len(page) for page in pages] == [3, 3, 1]
        assert list(chain.from_iterable(pages)) == [*expected, orders[3].id]

    def test_filters_by_status_and_time(self, stage: Stage) -> None:
        """From is included, to is not."""
        stage.keep(an_order())
        shipped, old = stage.keep(an_order(OrderStatus.SHIPPED)), stage.keep(an_order(OrderStatus.SHIPPED))
        stage.shift(old.id, "created_at", interval="1 day")
        instant = shipped.created_at.isoformat()

        with stage.sessions() as session:
            assert list(self.pages(session, 9, status="Shipped")) == [[shipped.id, old.id]]
            assert list(self.pages(session, 9, status="Shipped", **{"from": instant})) == [[shipped.id]]
            assert list(self.pages(session, 9, to=instant)) == [[old.id]]

    def test_shows_a_customer_their_own(self, stage: Stage) -> None:
        """With how many lines each has."""
        owner = a_caller()
        stage.keep(an_order())
        mine = stage.keep(an_order(OrderStatus.PENDING, owner, a_line(), a_line(), a_line()))

        with stage.sessions() as session:
            page, following = OrderRepository(session).list_summaries(owner, LIST_ORDERS.read({}))

        assert [(row.id, row.item_count) for row in page] == [(mine.id, 3)]
        assert following is None

    @pytest.mark.parametrize("cursor", ["x", "e30", "WzEsMl0", "WyJ4IiwieSJd", "\u00e9"])
    def test_refuses_a_cursor_it_did_not_give(self, session: Session, cursor: str) -> None:
        """Not a page somewhere else."""
        with pytest.raises(InvalidInput):
            OrderRepository(session).list_summaries(STAFF, LIST_ORDERS.read({"cursor": cursor}))


class TestDeadline:
    """Set and judged by the database's clock; the service's own may say what it likes (the builders' is fixed)."""

    def test_is_the_given_distance_from_the_databases_now(self, stage: Stage) -> None:
        """Whatever the time of placing was by another clock."""
        order = stage.keep(an_order())

        with stage.sessions() as session:
            seconds = session.scalar(text("SELECT extract(epoch FROM deadline_at - now()) FROM orders"))

        assert 890 < float(seconds) <= 900
        assert stage.load(order.id).created_at == order.created_at

    def test_finds_the_pending_orders_that_are_past_it(self, stage: Stage) -> None:
        """Not those that still have time, nor those that are past Pending."""
        stage.keep(an_order())
        late, paid = stage.keep(an_order()), stage.keep(an_order(OrderStatus.CONFIRMED))
        for order in (late, paid):
            stage.shift(order.id, "deadline_at", interval="901 seconds")

        with stage.sessions() as session:
            assert [order.id for order in OrderRepository(session).list_overdue(9)] == [late.id]

    @pytest.mark.parametrize(("placed_at", "judged_at"), [(2, 0), (-2, 0), (0, 2), (0, -2)])
    def test_comes_neither_sooner_nor_later_where_a_clock_is_wrong(
        self, stage: Stage, placed_at: int, judged_at: int
    ) -> None:
        """Instances that believe another hour give everybody a quarter of one, and then no more."""
        with travel(timedelta(hours=placed_at)):
            fresh, late = stage.place(a_caller()), stage.place(a_caller())
        stage.shift(late["id"], "deadline_at", interval="901 seconds")

        with travel(timedelta(hours=judged_at)):
            stage.serve().expire_orders()

        assert (stage.load(fresh["id"]).status, stage.load(late["id"]).status) == ("Pending", "Cancelled")

    def test_passes_over_what_somebody_else_has_locked(self, stage: Stage) -> None:
        """Two timers share the work."""
        orders = [stage.keep(an_order()) for _ in range(3)]
        for order in orders:
            stage.shift(order.id, "deadline_at", interval="901 seconds")

        with stage.sessions() as one, stage.sessions() as other:
            first = OrderRepository(one).list_overdue(2)
            second = OrderRepository(other).list_overdue(2)

            assert (len(first), len(second)) == (2, 1)
            assert {order.id for order in (*first, *second)} == {order.id for order in orders}


class TestSettlement:
    """Cancelled orders that have not got everything back."""

    def due(self, stage: Stage) -> list[UUID]:
        """Those to be reminded of now."""
        with stage.sessions() as session:
            return [order.id for order in OrderRepository(session).list_unsettled(FIRST, 9)]

    def test_are_due_after_five_minutes(self, stage: Stage) -> None:
        """By the database's clock."""
        order = stage.keep(an_order(OrderStatus.CANCELLED))
        assert self.due(stage) == []

        stage.shift(order.id, "cancelled_at", interval="301 seconds")

        assert self.due(stage) == [order.id]

    def test_are_not_due_once_settled(self, stage: Stage) -> None:
        """Both halves."""
        order = an_order(OrderStatus.CANCELLED)
        order.payment_settled(payment_voided(order), LATER)
        order.stock_settled_at = LATER
        stage.keep(order)
        stage.shift(order.id, "cancelled_at", interval="301 seconds")

        assert self.due(stage) == []

    def test_come_again_at_growing_distances(self, stage: Stage) -> None:
        """Twice as long each time, at most a day."""
        order = stage.keep(an_order(OrderStatus.CANCELLED))
        distances = []
        for _ in range(11):
            with stage.sessions.begin() as session:
                OrderRepository(session).get_for_update(order.id).remind(LATER, FIRST)
            with stage.sessions() as session:
                seconds = session.scalar(text("SELECT extract(epoch FROM next_settlement_at - now()) FROM orders"))
            distances.append(round(float(seconds) / 60))

        assert distances == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440, 1440]


class TestCatalogue:
    """The copy of the catalogue."""

    def test_takes_over_only_what_is_newer(self, session: Session) -> None:
        """Whatever came first."""
        catalogue, product_id = CatalogueRepository(session), uuid4()

        for version, price in ((2, 200), (1, 100), (2, 222)):
            said = a_product(product_id=product_id, product_version=version, unit_price_cents=price)
            catalogue.learn([said])
        assert catalogue.find_all([product_id])[product_id].unit_price_cents == 200
        catalogue.learn([a_product(product_id=product_id, product_version=3, unit_price_cents=300, active=False)])

        session.expire_all()
        found = catalogue.find_all([product_id])[product_id]
        assert (found.unit_price_cents, found.active, found.product_version) == (300, False, 3)

    def test_knows_only_what_it_was_told(self, session: Session) -> None:
        """The rest is left out."""
        catalogue = CatalogueRepository(session)
        catalogue.learn([])

        assert catalogue.find_all([a_product().product_id]) == {}


class TestOrderRows:
    """What the model's methods leave in the database."""

    @pytest.mark.parametrize("status", OrderStatus)
    def test_number_the_history_without_a_gap(self, stage: Stage, status: OrderStatus) -> None:
        """From 1 to the order's version."""
        order = stage.keep(an_order(status))

        with stage.sessions() as session:
            history = OrderRepository(session).list_history(order.id)
            found: Order = OrderRepository(session).get(order.id)

        assert [entry.number for entry in history] == list(range(1, found.version + 1))
        assert history[-1].to_status == found.status == status
