"""Messages that are not what they should be: events, calls and answers; and some that are well-formed and not true."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from amqp.basic_message import Message

from cli.doctor_reading import WITH_EVENTS
from cli.doctor_repairs import carry_out, plan
from cli.services import service_classes
from services.chassis import wire
from services.chassis.letter import DeadLetter
from services.chassis.topology import read_wiring
from tests.faults.message_backlog import growing
from tests.faults.message_detour import Detour, opened, send
from tests.faults.message_letters import Letters
from tests.faults.message_lies import BELIEVED, NOBODY, Lie, check_given_up, lie_about_nothing, lies_about, tell, untrue
from tests.faults.message_poison import BAD_HEADERS, BOMB_BYTES, Dose, bad_answers, bad_calls, call, doses, table
from tests.faults.message_stories import published, tell_all
from tests.support.calls import Calls
from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, movements_of, refunds_of, until_mails
from tests.support.fixtures import examined
from tests.support.operator import Operator, counts
from tests.support.rest import come_to_rest
from tests.support.until import eventually

PATIENCE_SECONDS = 120.0
ANSWERED = "SELECT event_id::text AS id FROM inbox"
NO_ANSWER = {"result": None, "error": None}
METHODS = [wiring.methods[0] for wiring in map(read_wiring, service_classes()) if wiring.methods]
"""One of each service that can be called."""


@pytest.fixture
def letters(operator: Operator, tmp_path: Path) -> Iterator[Letters]:
    """The dead letters; none before a test."""
    with Letters(operator, tmp_path).seen_to() as letters:
        yield letters


@pytest.fixture
def unharmed(cluster: Cluster, admin: Client, customer: Client) -> Iterator[None]:
    """Afterwards the same processes live, and the next order goes through."""
    before = cluster.pids
    yield
    customer.wait_for(customer.place(admin.add_product(stock=1)), "Confirmed", 60)
    assert cluster.pids == before


@dataclass(frozen=True)
class Poisoned:
    """What came of all the poison: letters by the id of their message, which service has answered what, memory."""

    doses: list[Dose]
    letters: Mapping[str, DeadLetter]
    answered: set[tuple[str, str]]
    mark: Path
    grown_bytes: Mapping[str, int]


@pytest.fixture(scope="module")
def poisoned(
    cluster: Cluster, operator: Operator, admin: Client, customer: Client, tmp_path_factory: pytest.TempPathFactory
) -> Poisoned:
    """Every poison for every handler, sent at once; afterwards the services went on."""
    folder = tmp_path_factory.mktemp("poison")
    told = tell_all(admin, customer)
    come_to_rest(cluster, operator, PATIENCE_SECONDS)
    base = {to: wire.decode(rows[0]["payload"]) for to, rows in published(cluster, told).items()}
    sent = list(doses(base, folder / "mark"))
    before, answered = cluster.pids, operator.handled()
    letters = Letters(operator, folder)

    with growing(cluster) as grown:
        with opened(operator) as channel:
            for dose in sent:
                send(channel, dose.to, dose.body, **dose.properties)
        good = Counter(f"{dose.to.service}.{dose.to.method}" for dose in sent if not dose.poison.reason)
        eventually(lambda: operator.handled() >= answered + good, "the good ones are answered", PATIENCE_SECONDS)
        found = letters.wait_for(*(dose.id for dose in sent if dose.poison.reason))
        customer.wait_for(customer.place(admin.add_product(stock=1)), "Confirmed", 60)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
    assert cluster.pids == before
    operator.purge_dead_letters()
    inboxes = {(name, row["id"]) for name in WITH_EVENTS for row in cluster.rows(name, ANSWERED)}
    return Poisoned(sent, found, inboxes, folder / "mark", grown)


class TestPoison:
    """Messages that are not what they should be, to every handler that there is."""

    @pytest.mark.parametrize("name", [poison.name for poison in table(Path())])
    def test_is_answered_or_given_up_with_its_reason(self, poisoned: Poisoned, name: str) -> None:
        """At once, as it was; whoever had it lives, and the next order goes through."""
        given = [dose for dose in poisoned.doses if dose.poison.name == name]
        assert given
        for dose in given:
            letter = poisoned.letters.get(dose.id)
            if dose.poison.reason:
                assert letter is not None
                assert (letter.kind, letter.attempts) == ("malformed", 1)
                assert letter.handler == f"{dose.to.service}.{dose.to.method}"
                assert dose.poison.reason in letter.reason
                assert letter.body == dose.body
            else:
                assert letter is None
                assert dose.to.service not in WITH_EVENTS or (dose.to.service, dose.id) in poisoned.answered

    def test_reaches_every_handler(self, cluster: Cluster, poisoned: Poisoned) -> None:
        """A new one is poisoned at once."""
        assert {dose.to for dose in poisoned.doses} == set(cluster.subscriptions())

    def test_is_never_unpickled_nor_unpacked(self, poisoned: Poisoned) -> None:
        """No pickle has left its mark, and nobody's memory has ever held what a bomb unpacks to."""
        assert not poisoned.mark.exists()
        assert swollen(poisoned.grown_bytes) == {}


class TestCalls:
    """Calls and answers over RPC that are not what they should be."""

    def test_are_refused(self, cluster: Cluster, unharmed: None, tmp_path: Path) -> None:
        """By every service, with an answer; nothing is unpickled, nothing unpacked."""
        with growing(cluster) as grown, Calls(cluster.place.vhost.amqp_url, "gateway") as calls:
            for method in METHODS:
                for poison in bad_calls(tmp_path / "mark"):
                    answer = calls.wait(call(calls, method, poison.make({}), **poison.properties), 60)
                    assert answer["error"]["exc_args"][0] == "malformed_call", (method, poison.name)
                for headers in BAD_HEADERS:
                    good = wire.encode({"args": ["\0"], "kwargs": {}})
                    answer = calls.wait(call(calls, method, good, application_headers=headers), 60)
                    assert answer["error"]["exc_type"] in ("InvalidInput", "NotFound", "Unauthenticated"), answer

        assert not (tmp_path / "mark").exists()
        assert swollen(grown) == {}

    def test_are_given_up_without_reply_to(self, cluster: Cluster, letters: Letters, unharmed: None) -> None:
        """Nobody would learn the answer; a replay leaves them where they are."""
        with Calls(cluster.place.vhost.amqp_url, "gateway") as calls:
            for method in METHODS:
                calls.send(method, {"args": ["x"], "kwargs": {}}, reply_to=None)
        services = [method.partition(".")[0] for method in METHODS]
        found = eventually(lambda: (them := letters.of(*services))[len(METHODS) - 1 :] and them, "given up", 60)

        assert {letter.service for letter in found} == set(services)
        assert {letter.reason for letter in found} == {"a call without reply_to: nobody would learn the answer"}
        for _ in range(2):
            assert [letters.replay(letter) for letter in found] == [0] * len(found)
            assert {letter.id for letter in letters.of(*services)} == {letter.id for letter in found}

    def test_are_refused_as_answers(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, tmp_path: Path
    ) -> None:
        """Whoever waits for one hears at once that it could not be read, and is answered the next time."""
        anyone, products = Client(cluster.url), "/api/inventory/products"
        before = cluster.pids["gateway"]
        with (
            growing(cluster) as grown,
            away(cluster, "inventory"),
            opened(operator) as channel,
            ThreadPoolExecutor(1) as pool,
        ):
            for poison in bad_answers(tmp_path / "mark"):
                asking = pool.submit(anyone.ask, "GET", products)
                asked = eventually(lambda: channel.basic_get("rpc-inventory", no_ack=True), "the call")
                assert asked.delivery_info["routing_key"] == "inventory.list_products"
                number, reply_to = asked.properties["correlation_id"], asked.properties["reply_to"]
                answer = Message(poison.make(NO_ANSWER), correlation_id=number, **poison.properties)
                channel.basic_publish_confirm(answer, "nameko-rpc", reply_to)
                told = asking.result()
                assert (told.status_code, told.json()["code"]) == (503, "malformed_reply"), poison.name
        assert anyone.good("GET", products)["items"]

        assert not (tmp_path / "mark").exists()
        assert swollen(grown) == {}
        customer.wait_for(customer.place(admin.add_product(stock=1)), "Confirmed", 60)
        assert cluster.pids["gateway"] == before

    def test_are_dropped_where_they_answer_nobody(
        self, cluster: Cluster, operator: Operator, admin: Client, unharmed: None, tmp_path: Path
    ) -> None:
        """Whatever comes to those who wait for answers; the next answer, which came behind it, is taken."""
        waiting = {wiring.name for wiring in map(read_wiring, service_classes()) if wiring.calls}
        keys = [each["routing_key"] for each in operator.broker.get("bindings", operator.vhost)]
        listening = [key for key in keys if key.startswith("reply.")]
        assert {key.split(".")[1] for key in listening} == waiting
        before = answers_taken(cluster, waiting)

        with growing(cluster) as grown:
            with opened(operator) as channel:
                for key in listening:
                    for poison in bad_answers(tmp_path / "mark"):
                        message = Message(poison.make(NO_ANSWER), correlation_id=str(uuid4()), **poison.properties)
                        channel.basic_publish_confirm(message, "nameko-rpc", key)
            customer = Client.register(cluster.url)
            assert customer.ask("POST", "/api/order", a_wish(str(uuid4()))).status_code == 422
            until_mails(cluster, customer.place(admin.add_product(stock=1)), "confirmation", "receipt")

        now = answers_taken(cluster, waiting)
        assert {name for name in waiting if now[name] > before[name]} == waiting
        assert not (tmp_path / "mark").exists()
        assert swollen(grown) == {}


@contextmanager
def away(cluster: Cluster, service: str) -> Iterator[None]:
    """While the block runs, what the service is told and asked waits for it."""
    cluster.stop(service)
    try:
        yield
    finally:
        cluster.start(service)


def swollen(grown: Mapping[str, int]) -> dict[str, int]:
    """The processes that have ever held what a bomb unpacks to."""
    return {name: size for name, size in grown.items() if size > BOMB_BYTES / 2}


def answers_taken(cluster: Cluster, services: Iterable[str]) -> dict[str, int]:
    """How many calls of each service were answered so far."""
    return {name: counts(cluster, name, "oms_rpc_client_seconds_count", "outcome").get("ok", 0) for name in services}


class TestLies:
    """Well-formed events that are not true: of unknown orders, over forged amounts, with texts no database takes."""

    def test_of_an_order_under_way_change_nothing(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, letters: Letters, unharmed: None
    ) -> None:
        """Alarms and dead letters; the order stays as it is, and then goes its way."""
        held = cluster.subscription("payments.on_inventory_reserved")
        with Detour(operator, [held]).on() as detour:
            order_id = customer.place(admin.add_product(stock=1))
            eventually(detour.count, "held back", 60)
            lies = list(lies_about(order_id, 2100))
            check_given_up(letters, lies, tell(cluster, operator, lies))
            assert customer.order(order_id)["status"] == "Pending"
            assert cluster.rows("payments", "SELECT 1 FROM payments WHERE user_id = %s", NOBODY) == []

        customer.wait_for(order_id, "Confirmed", 60)
        assert charge_of(cluster, order_id) == ["charged"]
        assert movements_of(cluster, order_id) == [("reserved", 1)]

    @pytest.mark.long
    def test_of_no_order_are_given_up_by_whoever_can_know(
        self, cluster: Cluster, operator: Operator, letters: Letters, unharmed: None
    ) -> None:
        """And whoever cannot hears of it from those who can."""
        can_know = [each for each in cluster.subscriptions() if f"{each.service}.{each.method}" not in BELIEVED]
        lies = list(map(lie_about_nothing, can_know))

        check_given_up(letters, lies, tell(cluster, operator, lies))

    @pytest.mark.long
    def test_of_a_sale_that_never_was_are_undone(
        self, cluster: Cluster, operator: Operator, admin: Client, letters: Letters, unharmed: None
    ) -> None:
        """Reserved and charged, for nobody can know; orders and the mails complain, the doctor repairs it."""
        product, order_id = admin.add_product(stock=2), str(uuid4())
        sale = untrue("OrderCreatedEvent", order_id)
        sale["items"][0]["product_id"] = product
        tell(cluster, operator, [Lie("inventory.on_order_created", sale)])
        handlers = {"orders.on_payment_processed", "notifications.on_payment_processed"}
        eventually(lambda: {letter.handler for letter in letters.of()} == handlers, "given up", PATIENCE_SECONDS)
        assert admin.stock(product) == (2, 2)

        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        repairs = plan(examined(cluster, operator))
        assert [repair.service for repair in repairs] == ["orders"]
        assert carry_out(repairs, cluster.place.database_urls) == 1

        eventually(lambda: refunds_of(cluster, order_id) == [2000], "refunded", PATIENCE_SECONDS)
        eventually(lambda: admin.stock(product) == (2, 0), "given back", PATIENCE_SECONDS)
        told = {"orders.on_inventory_released", "orders.on_payment_refunded", "notifications.on_payment_refunded"}
        eventually(lambda: {each.handler for each in letters.of()} == handlers | told, "all told", PATIENCE_SECONDS)

    @pytest.mark.long
    def test_of_a_price_end_in_a_refund(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, letters: Letters, unharmed: None
    ) -> None:
        """What was charged wrongly is an alarm, and goes back when the order expires; a replay is quiet then."""
        held = cluster.subscription("payments.on_inventory_reserved")
        with Detour(operator, [held]).on() as detour:
            order_id = customer.place(admin.add_product(stock=1))
            eventually(detour.count, "held back", 60)
            tell(cluster, operator, [Lie(f"{held.service}.{held.method}", untrue(held.event, order_id))])
            (letter,) = eventually(lambda: letters.of("orders"), "given up", PATIENCE_SECONDS)
            assert (letter.kind, customer.order(order_id)["status"]) == ("alarm", "Pending")
        cluster.expire(order_id)
        customer.wait_for(order_id, "Cancelled", 60, paymentStatus="Refunded")

        letters.copy(letter)
        assert letters.replay(letter) == 2
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        query = "SELECT 1 FROM inbox WHERE order_id = %s AND handler = 'orders.on_payment_processed'"
        eventually(lambda: cluster.rows("orders", query, order_id), "answered", 60)

        assert letters.of("orders") == []
        assert refunds_of(cluster, order_id) == [2000]
