"""Dead letters of a running service: how they come about, come back, and are seen to over RPC by staff."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from cli.environments import broker_url
from cli.servers.endpoints import Endpoints
from services.chassis import wire
from services.chassis.auth import Principal, issue_token
from tests.support.calls import Calls
from tests.support.cluster import BROKER_PASSWORD, JWT_SECRET, Cluster
from tests.support.fixtures import made_place
from tests.support.operator import Operator, counts
from tests.support.until import eventually


@pytest.fixture(scope="module")
def cluster(
    servers: Endpoints, database_template: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster of which only payments runs."""
    with made_place(servers, database_template, tmp_path_factory.mktemp("letters")) as place:
        cluster = Cluster(place)
        try:
            cluster.start("payments")
            yield cluster
        finally:
            cluster.down()


class Desk:
    """Somebody who calls payments' methods."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.operator = Operator(cluster)

    def ask(self, method: str, *args: Any, role: str = "staff") -> Any:
        """The whole answer."""
        with self.calls(role) as calls:
            return calls(f"payments.{method}", *args)

    def get(self, method: str, *args: Any, role: str = "staff") -> Any:
        """The result of a call that must succeed."""
        answer = self.ask(method, *args, role=role)
        assert answer["error"] is None, answer
        return answer["result"]

    def calls(self, role: str) -> Calls:
        """A caller with that role; ``""`` has no token."""
        if not role:
            return Calls(self.cluster.place.vhost.amqp_url, "gateway")
        now = datetime.now(UTC)
        person = Principal(uuid4(), role, uuid4(), uuid4(), now + timedelta(minutes=5))
        config = {"JWT_ISSUER": "oms", "JWT_AUDIENCE": "oms-api", "JWT_SECRET": JWT_SECRET}
        context = {"auth_token": issue_token(person, now, config)}
        return Calls(self.cluster.place.vhost.amqp_url, "gateway", context)

    def items(self, **query: str) -> list[dict[str, Any]]:
        """The letters there are."""
        items: list[dict[str, Any]] = self.get("list_dead_letters", query)["items"]
        return items

    def cancel(self) -> str:
        """Let payments hear that an order was cancelled; its id."""
        order_id = str(uuid4())
        event = {"order_id": order_id, "user_id": str(uuid4()), "reason": "customer", "cancelled_from": "Pending"}
        self.operator.dispatch("orders", "OrderCancelledEvent", event)
        return order_id

    def handled(self) -> int:
        """How many cancellations payments has answered, whatever came of them."""
        answered = counts(self.cluster, "payments", "oms_handler_seconds_count", "handler")
        return answered["payments.on_order_cancelled"]

    @contextmanager
    def broken(self) -> Iterator[None]:
        """While the block runs payments' own table is not there: a failure that lasts."""
        self.cluster.execute("payments", "ALTER TABLE payments RENAME TO elsewhere")
        try:
            yield
        finally:
            self.cluster.execute("payments", "ALTER TABLE elsewhere RENAME TO payments")


@pytest.fixture
def desk(cluster: Cluster) -> Iterator[Desk]:
    """No dead letters, before and after."""
    desk = Desk(cluster)
    desk.operator.purge_dead_letters()
    yield desk
    desk.operator.purge_dead_letters()


class TestReplay:
    """A letter whose cause is mended is delivered again."""

    def test_does_what_was_missed_once(self, desk: Desk, cluster: Cluster) -> None:
        """It failed five times, then once more with its history, then it works."""
        with desk.broken():
            order_id = desk.cancel()
            (first,) = eventually(desk.items, seconds=20)
            assert (first["orderId"], first["attempts"], first["replays"]) == (order_id, 5, 0)
            assert desk.get("replay_dead_letter", first["id"]) == {"replayed": first["id"]}
            (second,) = eventually(lambda: [each for each in desk.items() if each["id"] != first["id"]], seconds=20)

        shown = desk.get("show_dead_letter", second["id"])
        assert (shown["replays"], shown["attempts"]) == (1, 5)
        assert shown["history"][0]["reason"] == first["reason"]
        assert shown["payload"]["order_id"] == order_id

        desk.get("replay_dead_letter", second["id"])

        query = "SELECT status FROM payments WHERE order_id = %s"
        assert eventually(lambda: cluster.rows("payments", query, order_id)) == [{"status": "voided"}]
        assert desk.items() == []

    def test_may_be_repeated(self, desk: Desk, cluster: Cluster) -> None:
        """A letter that was answered meanwhile changes nothing."""
        with desk.broken():
            order_id = desk.cancel()
            (letter,) = eventually(desk.items, seconds=20)
        body = desk.operator.dead_letters()[0].body
        desk.operator.dispatch("orders", "OrderCancelledEvent", wire.decode(body))
        query = "SELECT event_id FROM outbox WHERE order_id = %s"
        eventually(lambda: cluster.rows("payments", query, order_id))

        before = desk.handled()

        desk.get("replay_dead_letter", letter["id"])

        eventually(lambda: desk.handled() > before, seconds=20)
        assert len(cluster.rows("payments", query, order_id)) == 1


class TestPermission:
    """Customers know of no dead letters, and only an administrator throws one away."""

    @pytest.mark.parametrize(
        ("role", "method", "args", "error"),
        [
            ("", "list_dead_letters", ({},), "Unauthenticated"),
            ("customer", "list_dead_letters", ({},), "Forbidden"),
            ("customer", "show_dead_letter", ("0" * 16,), "Forbidden"),
            ("customer", "replay_dead_letter", ("0" * 16,), "Forbidden"),
            ("staff", "discard_dead_letter", ("0" * 16, {"reason": "because"}), "Forbidden"),
            ("staff", "show_dead_letter", ("0" * 16,), "NotFound"),
            ("staff", "replay_dead_letter", ("0",), "NotFound"),
            ("admin", "discard_dead_letter", ("0" * 16, {"reason": ""}), "InvalidInput"),
            ("admin", "discard_dead_letter", ("0" * 16, {"reason": "because"}), "NotFound"),
            ("staff", "list_dead_letters", ({"nonsense": "1"},), "InvalidInput"),
        ],
    )
    def test_refuses(self, desk: Desk, role: str, method: str, args: tuple[Any, ...], error: str) -> None:
        """With one of the six kinds."""
        assert desk.ask(method, *args, role=role)["error"]["exc_type"] == error

    def test_is_the_services_own_in_the_broker(self, desk: Desk) -> None:
        """Its broker user may read and redeliver its own dead letters and no others."""
        url = broker_url(desk.cluster.place.vhost.amqp_url, "payments", BROKER_PASSWORD)
        with Calls(url, "nobody").connection as connection:
            channel = connection.channel()
            channel.basic_get("payments.dead-letters")
            with pytest.raises(connection.channel_errors):
                channel.basic_get("orders.dead-letters")


class TestDiscard:
    """An administrator throws a letter away."""

    def test_is_logged_with_its_reason(self, desk: Desk, cluster: Cluster) -> None:
        """And by whom."""
        desk.operator.dispatch("orders", "OrderCancelledEvent", b"nonsense")
        (letter,) = eventually(desk.items, seconds=20)
        assert letter["kind"] == "malformed"

        desk.get("discard_dead_letter", letter["id"], {"reason": "sent by a test"}, role="admin")

        assert desk.items() == []
        lines = [json.loads(line) for line in cluster.log("payments").read_text().splitlines()]
        (logged,) = (line for line in lines if line["event"] == "dead_letter_discarded")
        assert (logged["why"], logged["letter"]["id"]) == ("sent by a test", letter["id"])

    def test_filters_what_it_lists(self, desk: Desk) -> None:
        """By event and by order."""
        desk.operator.dispatch("orders", "OrderCancelledEvent", b"nonsense")
        eventually(desk.items, seconds=20)

        assert len(desk.items(event="OrderCancelledEvent")) == 1
        assert desk.items(event="InventoryReservedEvent") == []
        assert desk.items(orderId=str(uuid4())) == []
