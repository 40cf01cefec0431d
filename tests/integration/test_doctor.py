"""The doctor over four real databases: a healthy shop is healthy, and whatever is spoilt in it is named."""

import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.databases import DATABASES, make_database, session
from cli.doctor import INSIDE, examine, subscriptions
from cli.doctor_orders import CHECKS
from cli.doctor_places import Places
from cli.doctor_report import Report
from cli.servers.endpoints import with_database
from services.chassis.topology import Topology
from tests.conftest import PASSWORD
from tests.support.books import LONG_AGO, Bookkeeper
from tests.support.shop import Shop
from tests.support.spoils import SPOILT

NO_BROKER = Topology((), (), (), ())


@pytest.fixture(scope="module")
def healthy(
    postgres_url: str, database_template: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop in which everything is as it must be; nobody changes it."""
    urls = {}
    with session(postgres_url) as cursor:
        for service in DATABASES:
            database = f"books_{service}_{secrets.token_hex(4)}"
            make_database(cursor, database, service, database_template(service))
            urls[service] = with_database(postgres_url, database, service, PASSWORD)
    shop = Shop(postgres_url, urls, tmp_path_factory.mktemp("mailbox"))
    Bookkeeper(shop, subscriptions()).write()
    for file in (shop.mailbox / "email").iterdir():
        age(file)
    yield shop
    shop.drop()


@pytest.fixture
def spoilt(healthy: Shop) -> Iterator[Callable[..., Shop]]:
    """``spoilt(("orders", "UPDATE ..."))`` is a copy of the shop with that done to it."""
    made: list[Shop] = []

    def spoil(*changes: tuple[str, str]) -> Shop:
        shop = healthy.copied(*dict.fromkeys(service for service, _ in changes))
        made.append(shop)
        for service, statement in changes:
            shop.spoil(service, statement)
        return shop

    yield spoil
    for shop in made:
        shop.drop(healthy)


def age(file: Path) -> None:
    """Let the file be a day old."""
    os.utime(file, (LONG_AGO.timestamp(), LONG_AGO.timestamp()))


def examined(shop: Shop, mailbox: Path | None = None) -> Report:
    """What the doctor says of the shop."""
    return examine(Places(shop.urls, mailbox=mailbox or shop.mailbox), NO_BROKER, subscriptions())


def broken(report: Report) -> set[str]:
    """The names of the checks that are broken."""
    return {name for name, count in report.counts.items() if count}


IN_THE_MAILBOX = {"notifications.outcome_is_told", "notifications.message_has_its_outcome"}


class TestHealthy:
    """A shop in which everything is as it must be."""

    def test_is_found_healthy(self, healthy: Shop) -> None:
        """Nothing is wrong with any order."""
        report = examined(healthy)

        assert report.as_text().endswith("checks hold over 6 orders.")
        assert (broken(report), report.healthy) == (set(), True)

    def test_has_a_test_for_every_check(self, healthy: Shop) -> None:
        """Neither a check without a test nor a test without a check."""
        checked = set(examined(healthy).checks)

        assert checked == set(SPOILT) | IN_THE_MAILBOX
        assert {each.name for invariants in INSIDE.values() for each in invariants} | {c.name for c in CHECKS} < checked

    def test_may_be_busy(self, spoilt: Callable[..., Shop]) -> None:
        """An order that somebody has just touched is not judged as one at rest."""
        shop = spoilt(
            ("orders", "UPDATE orders SET payment_settled_at = NULL, updated_at = now() WHERE id = {refunded}"),
            ("payments", "UPDATE payments SET status = 'refunding', refund_id = NULL WHERE order_id = {refunded}"),
            ("payments", "UPDATE payments SET updated_at = now() WHERE order_id = {refunded}"),
            ("payments", "DELETE FROM outbox WHERE event_type = 'PaymentRefundedEvent'"),
        )
        own = shop.mailbox.with_name("busy")
        own.mkdir()

        assert broken(examined(shop, own)) <= IN_THE_MAILBOX


class TestSpoilt:
    """A shop in which one thing is wrong."""

    @pytest.mark.parametrize("name", SPOILT)
    def test_is_named(self, spoilt: Callable[..., Shop], name: str) -> None:
        """By the check that is about it, with the row that shows it."""
        report = examined(spoilt(*SPOILT[name]))

        assert name in broken(report)
        assert not report.healthy
        (first, *_) = report.kept[name]
        assert first.row
        assert first.text in report.as_text()
        assert "{" not in first.text.replace("{'", "")

    def test_tells_order_amount_and_row(self, spoilt: Callable[..., Shop]) -> None:
        """As people write them, and as programs read them."""
        shop = spoilt(*SPOILT["orders.total_is_the_sum_of_its_lines"])

        document = json.loads(examined(shop).as_json())

        (check,) = (each for each in document["checks"] if each["broken"])
        (finding,) = check["findings"]
        order_id = str(shop.ids["pending"])
        assert finding["orderId"] == order_id
        assert finding["text"] == f"order {order_id} has a total of 21.00 EUR, but its lines come to 0.01."
        assert finding["row"]["lines_cents"] == 1

    def test_counts_what_it_does_not_print(self, spoilt: Callable[..., Shop]) -> None:
        """A hundred broken rows are a hundred, of which the first are printed."""
        columns = "event_id, event_type, correlation_id, payload, created_at"
        values = "gen_random_uuid(), 'OrderCreatedEvent', 'x', '{{}}', now() - interval '1 hour'"
        shop = spoilt(("orders", f"INSERT INTO outbox ({columns}) SELECT {values} FROM generate_series(1, 100)"))  # noqa: S608 - the test's own

        report = examined(shop)

        assert report.counts["orders.outbox_is_empty"] == 100
        assert "... and 80 more" in report.as_text()


class TestMailbox:
    """The mailbox is the book of what customers were told."""

    @pytest.fixture
    def mailbox(self, healthy: Shop, tmp_path: Path) -> Path:
        """A copy of the shop's."""
        (tmp_path / "email").mkdir()
        for file in (healthy.mailbox / "email").iterdir():
            (tmp_path / "email" / file.name).touch()
            age(tmp_path / "email" / file.name)
        return tmp_path

    def test_lacks_a_message(self, healthy: Shop, mailbox: Path) -> None:
        """The order and the kind are named."""
        (mailbox / "email" / f"{healthy.ids['confirmed']}.receipt.eml").unlink()

        report = examined(healthy, mailbox)

        assert broken(report) == {"notifications.outcome_is_told"}
        (finding,) = report.findings()
        assert (finding.order_id, finding.row["kind"]) == (str(healthy.ids["confirmed"]), "receipt")

    def test_holds_a_message_about_nothing(self, healthy: Shop, mailbox: Path) -> None:
        """A delivery of an order that never left the house."""
        stray = mailbox / "email" / f"{healthy.ids['confirmed']}.delivery.eml"
        stray.touch()
        age(stray)

        report = examined(healthy, mailbox)

        assert broken(report) == {"notifications.message_has_its_outcome"}

    def test_needs_no_confirmation_of_what_was_cancelled(self, healthy: Shop, mailbox: Path) -> None:
        """The cancellation silences it."""
        (mailbox / "email" / f"{healthy.ids['refunded']}.confirmation.eml").unlink()

        assert examined(healthy, mailbox).healthy

    def test_is_said_when_it_cannot_be_looked_into(self, healthy: Shop) -> None:
        """Nobody takes it for checked."""
        report = examine(Places(healthy.urls), NO_BROKER, subscriptions())

        assert any("mailbox" in what for what in report.skipped)
        assert "Not looked at: the mailbox" in report.as_text()
