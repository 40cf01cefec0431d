"""What the doctor tells again: new rows in the outbox of the right service, under the right ids, and nothing else."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.databases import DATABASES, make_database, session
from cli.doctor import examine, mend, subscriptions
from cli.doctor_places import Places
from cli.doctor_repairs import carry_out, plan
from cli.doctor_report import Report
from cli.servers.endpoints import with_database
from services.chassis.topology import Topology
from tests.conftest import PASSWORD
from tests.support.books import Bookkeeper
from tests.support.shop import Shop

UNPUBLISHED = "SELECT event_id, event_type, order_id, payload FROM outbox WHERE published_at IS NULL ORDER BY id"


@pytest.fixture
def shop(postgres_url: str, database_template: Callable[[str], str], tmp_path: Path) -> Iterator[Shop]:
    """A shop in which everything is as it must be, for a test to spoil."""
    urls = {}
    with session(postgres_url) as cursor:
        for service in DATABASES:
            database = f"books_{service}_{secrets.token_hex(4)}"
            make_database(cursor, database, service, database_template(service))
            urls[service] = with_database(postgres_url, database, service, PASSWORD)
    shop = Shop(postgres_url, urls, tmp_path)
    Bookkeeper(shop, subscriptions()).write()
    yield shop
    shop.drop()


def examined(shop: Shop) -> Report:
    """What the doctor says of it."""
    return examine(Places(shop.urls, mailbox=shop.mailbox), Topology((), (), (), ()), subscriptions())


def repaired(shop: Shop) -> int:
    """How many events were told again."""
    return carry_out(plan(examined(shop)), shop.urls)


class TestRepair:
    """Each thing that was missed is told again, once."""

    def test_sends_an_event_that_somebody_missed_unchanged(self, shop: Shop) -> None:
        """Under the id it has, so that those who know it do nothing."""
        missed = "order_id = {shipped} AND event_type = 'OrderShippedEvent'"
        shop.spoil("inventory", f"DELETE FROM inbox WHERE {missed}")  # noqa: S608 - the test's own
        order_id = shop.ids["shipped"]
        (first,) = shop.rows(
            "orders",
            "SELECT event_id, payload FROM outbox WHERE order_id = :id AND event_type = 'OrderShippedEvent'",
            id=order_id,
        )

        assert repaired(shop) == 1

        (again,) = shop.rows("orders", UNPUBLISHED)
        assert (again.event_id, again.payload, again.order_id) == (first.event_id, first.payload, order_id)

    def test_sends_the_event_of_a_missing_mail_unchanged(self, shop: Shop) -> None:
        """From the outbox of whoever told it."""
        (shop.mailbox / "email" / f"{shop.ids['confirmed']}.receipt.eml").unlink()

        assert repaired(shop) == 1

        (again,) = shop.rows("payments", UNPUBLISHED)
        assert again.event_type == "PaymentProcessedEvent"

    def test_reminds_of_a_cancelled_order_that_is_not_settled(self, shop: Shop) -> None:
        """As the orders service does: a new id, and an entry in the history."""
        shop.spoil("orders", "UPDATE orders SET payment_settled_at = NULL WHERE id = {refunded}")

        assert repaired(shop) == 1

        (again,) = shop.rows("orders", UNPUBLISHED)
        assert (again.event_type, again.order_id) == ("OrderCancelledEvent", shop.ids["refunded"])
        query = "SELECT note FROM order_history WHERE order_id = :id ORDER BY number DESC LIMIT 1"
        assert shop.rows("orders", query, id=again.order_id)[0].note == "reminder 1"

    def test_cancels_again_what_is_settled_and_still_held(self, shop: Shop) -> None:
        """The order says it is settled; the stock says otherwise."""
        shop.spoil("inventory", "UPDATE reservations SET status = 'reserved' WHERE order_id = {refunded}")

        assert repaired(shop) == 1

        (again,) = shop.rows("orders", UNPUBLISHED)
        assert (again.event_type, again.order_id) == ("OrderCancelledEvent", shop.ids["refunded"])

    def test_cancels_an_order_that_does_not_exist(self, shop: Shop) -> None:
        """Its stock and its money go back, and nobody is told of an order he never placed."""
        shop.spoil("orders", "DELETE FROM orders WHERE id = {confirmed}")

        assert repaired(shop) == 1

        (again,) = shop.rows("orders", UNPUBLISHED)
        assert (again.event_type, again.order_id) == ("OrderCancelledEvent", shop.ids["confirmed"])
        assert "there is no such order" in again.payload

    def test_ships_again_what_is_still_reserved(self, shop: Shop) -> None:
        """The stock of a shipped order leaves the shelf."""
        shop.spoil("inventory", "UPDATE reservations SET status = 'reserved' WHERE order_id = {delivered}")

        assert repaired(shop) == 1

        (again,) = shop.rows("orders", UNPUBLISHED)
        assert (again.event_type, again.order_id) == ("OrderShippedEvent", shop.ids["delivered"])

    @pytest.mark.parametrize(
        ("service", "order", "event_type"),
        [
            ("orders", "pending", "OrderCreatedEvent"),
            ("orders", "confirmed", "OrderConfirmedEvent"),
            ("orders", "shipped", "OrderShippedEvent"),
            ("orders", "delivered", "OrderDeliveredEvent"),
            ("orders", "refunded", "OrderCancelledEvent"),
            ("payments", "confirmed", "PaymentProcessedEvent"),
            ("payments", "short", "PaymentVoidedEvent"),
            ("payments", "refunded", "PaymentRefundedEvent"),
        ],
    )
    def test_tells_what_a_status_lacks(self, shop: Shop, service: str, order: str, event_type: str) -> None:
        """The service's own outbox gets the event that its state should have caused."""
        shop.spoil(service, f"DELETE FROM outbox WHERE order_id = {{{order}}} AND event_type = '{event_type}'")  # noqa: S608 - likewise

        assert repaired(shop) == 1

        (told,) = shop.rows(service, UNPUBLISHED)
        assert (told.event_type, told.order_id) == (event_type, shop.ids[order])

    def test_lets_a_release_be_told_again(self, shop: Shop) -> None:
        """By whoever holds nothing any more, once the cancellation is announced again."""
        shop.spoil(
            "inventory", "DELETE FROM outbox WHERE order_id = {refunded} AND event_type = 'InventoryReleasedEvent'"
        )

        assert repaired(shop) == 1

        (again,) = shop.rows("orders", UNPUBLISHED)
        assert again.event_type == "OrderCancelledEvent"

    def test_leaves_to_a_person_what_telling_cannot_mend(self, shop: Shop) -> None:
        """A wrong total stays a wrong total."""
        shop.spoil("orders", "UPDATE order_items SET unit_price_cents = 1 WHERE order_id = {pending}")

        assert plan(examined(shop)) == []

    def test_sends_nothing_that_is_still_on_its_way(self, shop: Shop) -> None:
        """A subscriber that is behind is not sent everything twice."""
        shop.spoil("inventory", "DELETE FROM inbox WHERE order_id = {shipped}")
        report = examined(shop)
        for finding in report.kept["events.reach_every_subscriber"]:
            finding.row["waiting"] = 3  # type: ignore[index] # as if its queue held three

        assert plan(report) == []


class TestAsking:
    """Nothing is told unless somebody agrees."""

    @pytest.mark.parametrize(("answer", "told"), [("y\n", 1), ("n\n", 0), ("", 0)])
    def test_asks(self, shop: Shop, monkeypatch: pytest.MonkeyPatch, answer: str, told: int) -> None:
        """Silence is no."""
        shop.spoil("orders", "UPDATE orders SET payment_settled_at = NULL WHERE id = {refunded}")
        monkeypatch.setattr("sys.stdin.readline", lambda: answer, raising=False)

        mend(plan(examined(shop)), Places(shop.urls), sure=False)

        assert len(shop.rows("orders", UNPUBLISHED)) == told

    def test_changes_no_row_that_was_there(self, shop: Shop) -> None:
        """History stays what it was."""
        shop.spoil("orders", "UPDATE orders SET payment_settled_at = NULL WHERE id = {refunded}")
        everything = "SELECT * FROM outbox WHERE published_at IS NOT NULL ORDER BY id"
        before = shop.rows("orders", everything), shop.rows("inventory", everything)

        mend(plan(examined(shop)), Places(shop.urls), sure=True)

        assert before == (shop.rows("orders", everything), shop.rows("inventory", everything))
