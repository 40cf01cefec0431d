"""The Python client at the real gateway."""

import contextlib
import io
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Final
from uuid import UUID, uuid4

import pytest

from cli.state import CHECKOUT
from oms_client import (
    Action,
    Client,
    Conflict,
    Forbidden,
    InvalidInput,
    Line,
    NoAnswer,
    NotFound,
    NotReached,
    Order,
    OrderStatus,
    PaymentStatus,
    Problem,
    Product,
    Role,
    Tokens,
    Unauthenticated,
)
from tests.clients.conftest import Enter
from tests.clients.ground import PASSWORD, Mending, an_email
from tests.clients.routes import endpoints, watched
from tests.support import lines
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster
from tests.support.until import eventually

pytestmark = pytest.mark.usefixtures("holds_together")

README: Final = CHECKOUT / "clients" / "python" / "README.md"
SECONDS: Final = 60.0


class TestEveryEndpoint:
    """The client is complete."""

    def test_has_a_method(self, cluster: Cluster, enter: Enter) -> None:
        """What customers, staff and administrators do, and what comes back."""
        with watched(cluster) as reached:
            ada, boss = enter(), enter()
            play(ada, boss)

        assert endpoints() <= set(reached)


def play(ada: Client, boss: Client) -> None:
    """Everything that can be asked of the API."""
    open_accounts(ada, boss)
    lamp = fill_the_shelf(ada, boss)
    delivered = order_and_deliver(ada, boss, lamp)
    cancelled = order_and_cancel(ada, lamp)

    assert [summary.id for summary in ada.orders(page_size=1)] == [cancelled.id, delivered.id]
    assert [summary.id for summary in ada.orders(status=OrderStatus.DELIVERED)] == [delivered.id]
    assert list(ada.orders(since=cancelled.created_at, until=cancelled.created_at)) == []
    changed = boss.change_user(ada.me().id, role=Role.STAFF)
    assert (changed.role, changed.active) == (Role.STAFF, True)


def open_accounts(ada: Client, boss: Client) -> None:
    """Come, go, come again."""
    email = an_email()
    ada.register(email, PASSWORD, first_name="Ada", last_name="Lovelace", phone="+4915112345678")
    ada.log_out()
    assert ada.tokens is None
    first = ada.log_in(email, PASSWORD)
    boss.log_in(ADMIN_EMAIL, ADMIN_PASSWORD)
    me = ada.me()
    assert (me.id, me.email, me.first_name, me.role, me.active) == (first.user_id, email, "Ada", Role.CUSTOMER, None)
    ada.wallet.renew(first.token)
    assert ada.tokens != first


def fill_the_shelf(ada: Client, boss: Client) -> Product:
    """A new product, as it came to be."""
    lamp = boss.create_product(f"Lamp {secrets.token_hex(4)}", Decimal("34.90"), description="Warm light.")
    lamp = boss.change_product(lamp.id, price=Decimal("29.95"))
    assert (lamp.price, lamp.active, lamp.currency) == (Decimal("29.95"), True, "EUR")
    entry = boss.adjust_stock(lamp.id, 5, "delivered")
    assert (entry.delta, entry.on_hand_after, entry.reason) == (5, 5, "delivered")
    assert ada.get_product(lamp.id).price == lamp.price
    assert [found.id for found in ada.products(search=lamp.name)] == [lamp.id]
    return lamp


def order_and_deliver(ada: Client, boss: Client, lamp: Product) -> Order:
    """An order that arrives."""
    order = ada.place_order([Line(lamp.id, 2, price=lamp.price)], shipping_address="12 St James's Square")
    assert (order.status, order.total_amount, order.items[0].quantity) == ("Pending", Decimal("59.90"), 2)
    order = ada.wait_for(order.id, OrderStatus.CONFIRMED, seconds=SECONDS)
    assert (order.payment_status, order.allowed_actions) == (PaymentStatus.COMPLETED, (Action.CANCEL,))
    assert (boss.stock(lamp.id).on_hand, boss.stock(lamp.id).reserved) == (5, 2)
    assert boss.ship_order(order.id, tracking="a-parcel").status is OrderStatus.SHIPPED
    assert boss.deliver_order(order.id).status.is_final
    journey = ada.journey(order.id)
    assert journey.status is OrderStatus.DELIVERED
    assert {step.service for step in journey.steps} >= {"orders", "inventory", "payments"}
    assert OrderStatus.DELIVERED in [entry.to_status for entry in ada.follow(order.id)]
    return order


def order_and_cancel(ada: Client, lamp: Product) -> Order:
    """An order that does not."""
    other = ada.place_order([Line(lamp.id)])
    ada.wait_for(other.id, OrderStatus.CONFIRMED, seconds=SECONDS)
    assert ada.cancel_order(other.id, reason="a change of mind").status is OrderStatus.CANCELLED
    return ada.wait_for(other.id, lambda order: order.payment_status is PaymentStatus.REFUNDED, seconds=SECONDS)


class TestRefusals:
    """The server's words arrive."""

    def test_have_their_classes(self, ada: Client, boss: Client, lamp: UUID) -> None:
        """And say what is needed."""
        with pytest.raises(NotFound):
            ada.get_order(uuid4())
        with pytest.raises(Forbidden):
            ada.adjust_stock(lamp, 1, "a wish")
        with pytest.raises(Conflict) as dear:
            ada.place_order([Line(lamp, price=Decimal("0.01"))])
        with pytest.raises(InvalidInput) as wrong:
            ada.place_order([Line(lamp, 0), Line(lamp, -1)])

        assert dear.value.code == "price_changed"
        assert [error.pointer for error in wrong.value.errors] == ["/items/0/quantity", "/items/1/quantity"]

    def test_name_the_request(self, enter: Enter) -> None:
        """By the id that the caller gave it."""
        client = enter(context=lambda: {"X-Request-Id": "mine-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})

        with pytest.raises(Unauthenticated) as raised:
            client.me()

        assert (raised.value.request_id, raised.value.status) == ("mine-1", 401)

    def test_are_told_when_an_order_takes_another_way(self, ada: Client, lamp: UUID) -> None:
        """At once, and with the order."""
        order = ada.place_order([Line(lamp)], payment_method="pm_declined")

        with pytest.raises(NotReached) as raised:
            ada.wait_for(order.id, OrderStatus.CONFIRMED, seconds=SECONDS)

        assert raised.value.order.status_reason == "payment_failed"


class TestUnchanged:
    """What has not changed is not sent again."""

    def test_is_the_very_same(self, ada: Client, lamp: UUID) -> None:
        """An order and a product; and another one once it has changed."""
        order = ada.place_order([Line(lamp)])
        confirmed = ada.wait_for(order.id, OrderStatus.CONFIRMED, seconds=SECONDS)
        product = ada.get_product(lamp)

        assert ada.get_order(order.id, known=confirmed) is confirmed
        assert ada.get_product(lamp, known=product) == product
        assert ada.get_order(order.id, known=order) == confirmed


class TestLostAnswers:
    """The line breaks while the gateway answers."""

    def test_do_not_place_or_cancel_twice(self, cluster: Cluster, enter: Enter, boss: Client, lamp: UUID) -> None:
        """The key finds the order that is there already."""
        with lines.Line(cluster.ports["gateway"]) as line:
            ada = enter(line.url(cluster.url), clock=Mending(line))
            ada.register(an_email(), PASSWORD)

            line.hurt(lines.Fault(down=lines.Way(cut_after=1)))
            order = ada.place_order([Line(lamp)])
            ada.wait_for(order.id, OrderStatus.CONFIRMED, seconds=SECONDS)
            line.hurt(lines.Fault(down=lines.Way(cut_after=1)))
            cancelled = ada.cancel_order(order.id)

            assert [summary.id for summary in ada.orders()] == [order.id]
            assert cancelled.status is OrderStatus.CANCELLED

    def test_are_told_of_what_has_no_key(self, cluster: Cluster, enter: Enter, boss: Client, lamp: UUID) -> None:
        """It was done once, and not again."""
        with lines.Line(cluster.ports["gateway"]) as line:
            clerk = enter(line.url(cluster.url), tokens=boss.tokens, clock=Mending(line))
            clerk.me()

            line.hurt(lines.Fault(down=lines.Way(cut_after=1)))
            with pytest.raises(NoAnswer) as raised:
                clerk.adjust_stock(lamp, 1, "found")

        assert raised.value.uncertain
        eventually(lambda: len(list(boss.ledger(lamp))) > 1, "an entry of the ledger")
        assert [entry.delta for entry in boss.ledger(lamp, page_size=1)] == [1, 5]


class TestTokens:
    """A login goes on for as long as it is used."""

    def test_are_renewed_by_one_of_many(self, cluster: Cluster, enter: Enter, ada: Client) -> None:
        """Ten threads whose token is refused at once spend one refresh token."""
        assert ada.tokens
        kept: list[Tokens | None] = []
        client = enter(tokens=replace(ada.tokens, token="not.a.token"), on_tokens=kept.append)

        with watched(cluster) as reached, ThreadPoolExecutor(10) as pool:
            found = set(pool.map(lambda _: client.me().id, range(10)))

        assert found == {ada.tokens.user_id}
        assert reached.count(("POST", "/api/auth/refresh")) == 1
        assert kept == [client.tokens]

    def test_are_renewed_ahead_of_time(self, enter: Enter, ada: Client) -> None:
        """And the old pair is spent by that: whoever still has it logs in again."""
        assert ada.tokens
        late = replace(ada.tokens, expires_in=0)
        client, thief = enter(tokens=late), enter(tokens=late)

        client.me()
        with pytest.raises(Unauthenticated) as raised:
            thief.me()

        assert client.tokens != late
        assert raised.value.code == "refresh_token_invalid"
        assert thief.tokens is None

    def test_are_good_for_nothing_after_logging_out(self, enter: Enter, ada: Client) -> None:
        """Neither of the pair."""
        old = ada.tokens

        ada.log_out()

        with pytest.raises(Unauthenticated):
            enter(tokens=old).me()
        with pytest.raises(Problem):
            ada.me()


class TestReadme:
    """The example does what it says."""

    def test_runs(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """As it stands there, but for the address."""
        monkeypatch.setenv("no_proxy", "*")
        (example,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
        code = example.replace("http://127.0.0.1:5011", cluster.url).replace("grace@example.com", an_email())
        printed = io.StringIO()

        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(README), "exec"), {})  # noqa: S102 - our own page

        told = printed.getvalue().splitlines()
        assert (told[0], told[-1]) == ("Confirmed 69.80 EUR", "Cancelled Refunded")
        assert any(line.endswith("payments charge charged") for line in told)
