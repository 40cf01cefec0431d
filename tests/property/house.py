"""The three services of the saga over real databases, moved by nothing but what a test tells them to do.

Their handlers, timers, methods and the processor's worker are the real ones; the broker is :class:`Post`. Time passes
only where a test moves it.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast
from uuid import UUID, uuid5

from nameko.testing.services import worker_factory
from sqlalchemy import Engine, create_engine, text

import events
from cli.databases import session
from cli.doctor import INSIDE
from cli.doctor_deliveries import Deliveries, versions
from cli.doctor_orders import Sums, examine_order
from cli.doctor_reading import Connections, dossiers
from cli.doctor_report import Report
from cli.servers.endpoints import with_database
from services.chassis.auth import Principal
from services.chassis.consumer import RawMessage
from services.chassis.database import engine_options
from services.chassis.invariants import breaches
from services.chassis.messaging import classify, read_event
from services.chassis.topology import read_wiring
from services.chassis.work import Delivery
from services.inventory.models import Product
from services.inventory.repository import ProductRepository
from services.inventory.service import InventoryService
from services.orders.service import OrdersService
from services.payments.service import PaymentsService
from tests.property.crashes import CountingBegin, Crash, Desk, Errand, Killed
from tests.property.post import MOST_FAILURES, Message, Post
from tests.support.fakes import Bell, FakeCopies, a_caller

KINDS: Final = {kind.__name__: kind for kind in events.ALL}
SERVICES: Final[Mapping[str, Any]] = {each.name: each for each in (OrdersService, InventoryService, PaymentsService)}
SHELF: Final = {"plenty": 60, "a few": 3, "the last one": 1}
"""What there is to buy, and how many of each."""

PRODUCTS: Final = [uuid5(UUID("6f6d7300-0000-5000-8000-000000000009"), name) for name in SHELF]
CUSTOMER: Final = a_caller()
STAFF: Final = a_caller("admin")
SETTINGS: Final = {
    "cache_seconds": 1.0,
    "currency": "EUR",
    "deadline_seconds": 900.0,
    "lease_seconds": 30.0,
    "refund_retry_seconds": 3600.0,
    "retry_seconds": 0.000_001,
    "settlement_seconds": 300.0,
    "most_open": 0,
}
_TABLES: Final = """
    SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
    WHERE table_schema IN ('public', 'processor') AND table_name <> 'alembic_version' ORDER BY 1"""

_REACHED: Final = {
    "orders": "SELECT 'order ' || status, count(*) FROM orders GROUP BY 1",
    "inventory": "SELECT 'stock ' || status, count(*) FROM reservations GROUP BY 1",
    "payments": """
        SELECT 'payment ' || status, count(*) FROM payments GROUP BY 1
        UNION ALL SELECT concat_ws(' ', kind, coalesce(outcome, 'lost')), count(*) FROM attempts GROUP BY 1""",
}


class House:
    """All of it. ``clear`` makes it new."""

    def __init__(self, postgres_url: str, urls: Mapping[str, str]) -> None:
        self.postgres_url = postgres_url
        self.urls = urls
        self.engines: dict[str, Engine] = {name: create_engine(urls[name], **engine_options(5)) for name in SERVICES}
        self.book = create_engine(urls["payments"], **engine_options(2))
        self.answered: Counter[tuple[UUID, str]] = Counter()
        self.begins = {name: CountingBegin(engine, self.answered) for name, engine in self.engines.items()}
        self.workers: dict[tuple[str, UUID], Any] = {}
        wirings = [read_wiring(service) for service in SERVICES.values()]
        self.post = Post(each for wiring in wirings for each in wiring.subscriptions if each.source in SERVICES)
        self.errands: list[Errand] = []
        self.seen: Counter[str] = Counter()
        self.tables = {name: [row[0] for row in self.rows(name, _TABLES)] for name in SERVICES}

    def close(self) -> None:
        """Let go of the databases."""
        for engine in (*self.engines.values(), self.book):
            engine.dispose()

    def clear(self) -> None:
        """Begin anew, with full shelves; a failure can only be met again from where it began."""
        while self.errands:
            self.errands.pop().die()
        for name, tables in self.tables.items():
            database = self.urls[name].rpartition("/")[2]
            with session(with_database(self.postgres_url, database)) as cursor:
                cursor.execute("SET session_replication_role = replica")  # past those who guard history
                cursor.execute(f"TRUNCATE {', '.join(tables)}")
        self.post.clear()
        self.answered.clear()
        self._fill_shelves()

    def _fill_shelves(self) -> None:
        now = datetime.now(UTC)
        with self.begins["inventory"]() as work:
            products = []
            for product_id, (name, on_hand) in zip(PRODUCTS, SHELF.items(), strict=True):
                product = Product.new({"name": name, "unit_price_cents": 1_000}, currency="EUR", at=now)
                product.id, product.on_hand = product_id, on_hand
                products.append(product)
            ProductRepository(work.session).add_received(products, reason="test", actor="test", at=now)
            work.publish(*(product.changed(at=now) for product in products))
        self.post.collect("inventory", self.engines["inventory"])

    # --- what services do

    def service(self, name: str, caller: Principal = STAFF) -> Any:
        """The service as a worker of this caller has it."""
        known = self.workers.get((name, caller.user_id))
        if known is None:
            known = self.workers[name, caller.user_id] = self._worker(name, caller)
        return known

    def _worker(self, name: str, caller: Principal) -> Any:
        given = {"begin": self.begins[name], "caller": caller, "cache": FakeCopies(), "attempts": Bell()} | SETTINGS
        given["processor"] = Desk(self.book, self.engines["payments"])
        if name == "orders":
            given["inventory_rpc"] = self.service("inventory")
        wired = {key: value for key, value in given.items() if hasattr(SERVICES[name], key)}
        return worker_factory(SERVICES[name], **wired)

    def run(self, name: str, act: Callable[[], Any], crash: Crash = Crash.NEVER, commits: int = 1) -> Any:
        """What the service's action came to; raises Killed when it died, and then what it did not commit is undone."""
        fuse = self.begins[name].fuse
        before = self.fingerprint(name) if crash is Crash.BEFORE and commits == 1 else None
        fuse.arm(crash, commits)
        try:
            return act()
        except Killed:
            assert before in (None, self.fingerprint(name)), f"{name} died before its commit and left something"
            raise
        finally:
            fuse.disarm()
            self.post.collect(name, self.engines[name])

    def deliver(self, message: Message, crash: Crash = Crash.NEVER) -> None:
        """Bring a message to its handler, and meet what it raises as the chassis does."""
        subscription = message.subscription
        raw = SimpleNamespace(headers={}, body=message.body.encode(), content_type="application/json")
        event = read_event(cast("RawMessage", raw), KINDS[subscription.event])
        handler = getattr(self.service(subscription.service), subscription.method)
        delivery = Delivery(event, message.handler, message.attempt)
        before = self.fingerprint(subscription.service) if message.by_hand else None
        try:
            self.run(subscription.service, lambda: handler(delivery), crash)
        except Killed:
            return  # never acknowledged: it stays where it was
        except Exception as error:
            if not message.by_hand:
                raise AssertionError(f"{message} failed") from error
            assert before == self.fingerprint(subscription.service), f"{message} failed and left something"
            self._settle(message, classify(error))
            return
        assert not message.by_hand, f"{message} was taken for real"
        self.post.queue.remove(message)
        self.post.delivered.append(message)

    def _settle(self, message: Message, kind: str) -> None:
        assert kind in ("alarm", "lasting"), kind
        message.attempt += 1
        message.failures += 1
        if kind == "alarm" or message.failures == MOST_FAILURES:
            self.post.queue.remove(message)
            self.post.bury(message)

    def send_attempt(self, crash: Crash = Crash.NEVER) -> None:
        """Let the worker claim what is due, and the processor act on it."""
        payments = self.service("payments")
        claimed = self.run("payments", lambda: payments.claim_attempts(1), crash)
        self.errands += [Errand(payments, request) for request in claimed.jobs]

    def record(self, errand: Errand, crash: Crash = Crash.NEVER, commits: int = 1) -> None:
        """Let the worker record what the processor answered."""
        self.errands.remove(errand)
        self.run("payments", errand.go_on, crash, commits)

    # --- what time does

    def execute(self, name: str, statement: str, **values: Any) -> None:
        """SQL by hand."""
        with self.engines[name].begin() as connection:
            connection.execute(text(statement), values)

    def let_deadlines_pass(self, order_id: str | None = None) -> None:
        """As if a quarter of an hour had gone by for a Pending order, or all of them."""
        self.execute(
            "orders",
            "UPDATE orders SET deadline_at = now() - interval '1 second'"
            " WHERE status = 'Pending' AND id = coalesce(CAST(:id AS uuid), id)",
            id=order_id,
        )

    def let_reminders_fall_due(self) -> None:
        """As if a day had gone by since any order was cancelled."""
        self.execute("orders", "UPDATE orders SET next_settlement_at = now() WHERE status = 'Cancelled'")

    def let_leases_run_out(self) -> None:
        """As if an hour had gone by since any attempt."""
        self.execute(
            "payments",
            "UPDATE payments SET lease_until = NULL, next_attempt_at = clock_timestamp() - interval '1 second'"
            " WHERE status IN ('processing', 'refunding')",
        )

    # --- coming to rest

    def drain(self) -> None:
        """Deliver everything and answer everything, until nothing is left to do."""
        self.post.queue += self.post.lost
        self.post.lost.clear()
        for _ in range(1_000):
            if self.post.queue:
                self.deliver(self.post.queue[0])
            elif self.errands:
                self.record(self.errands[0])
            else:
                self.let_leases_run_out()
                self.send_attempt()
                if not self.errands:
                    return
        raise AssertionError("it never comes to rest")

    def come_to_rest(self) -> None:
        """Check that everything ends well: first by itself, then with the timers' help, then with every dead letter."""
        self.drain()
        self._check_ended(except_for=self.post.troubled)
        self.let_deadlines_pass()
        self.let_reminders_fall_due()
        for timer in ("expire_orders", "remind_of_settlement"):
            self.run("orders", getattr(self.service("orders"), timer))
        self.drain()
        self._check_ended()
        for message in [message for message in self.post.dead if not message.by_hand]:
            self.post.replay(message)
        self.drain()
        self._check_ended()
        self.check_quiet()
        self._remember()

    def _remember(self) -> None:
        """Count what was reached, for a test that reaches nothing proves nothing."""
        for name, query in _REACHED.items():
            for reached in (query, "SELECT event_type, count(*) FROM outbox GROUP BY 1"):
                self.seen.update({row[0]: row[1] for row in self.rows(name, reached)})

    def _check_ended(self, except_for: Sequence[UUID | None] = ()) -> None:
        query = """
            SELECT id, status, payment_status, stock_settled_at, payment_settled_at FROM orders
            WHERE status = 'Pending' OR status = 'Cancelled'
                AND (stock_settled_at IS NULL OR payment_settled_at IS NULL)"""
        stuck = [row for row in self.rows("orders", query) if row.id not in except_for]
        assert stuck == []

    # --- what must hold

    def rows(self, name: str, query: str, **values: Any) -> list[Any]:
        """What that database answers."""
        with self.engines[name].connect() as connection:
            return list(connection.execute(text(query), values))

    def fingerprint(self, name: str) -> Sequence[Any]:
        """Something that differs when any row of the service's database does."""
        each = "SELECT '{0}', md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {0} AS t"
        return [tuple(row) for row in self.rows(name, " UNION ALL ".join(map(each.format, self.tables[name])))]

    def check_now(self) -> None:
        """Every invariant that holds at any instant inside one database."""
        for name, invariants in INSIDE.items():
            lasting = [each for each in invariants if not each.when_quiet]
            broken = self.rows(name, f"SELECT {', '.join(f'EXISTS ({each.query})' for each in lasting)}")
            if any(broken[0]):
                with self.engines[name].connect() as connection:
                    raise AssertionError([breach.text for breach in breaches(connection, lasting)])
        repeated = {key: times for key, times in self.answered.items() if times > 1}
        assert repeated == {}, "a handler has answered the same event more than once"

    def check_quiet(self) -> None:
        """Every invariant that holds when nothing is under way."""
        wrong = list(self._wrongs())
        assert wrong == []

    def _wrongs(self) -> Iterator[str]:
        with self._connections() as connections:
            for name, invariants in INSIDE.items():
                quiet = [each for each in invariants if each.when_quiet]
                yield from (breach.text for breach in breaches(connections[name], quiet, quiet_seconds=0))
            report, sums = Report(), Sums()
            deliveries = Deliveries(self.post.subscriptions, quiet_seconds=0, mailbox=None)
            for dossier in dossiers(connections):
                deliveries.examine_order(dossier, report)
                examine_order(dossier, report)
                sums.add(dossier)
            sums.check(report)
            yield from (finding.text for finding in report.findings())
            yield from (f"stale copy: {row}" for row, held in versions(connections) if row["product_version"] != held)

    @contextmanager
    def _connections(self) -> Iterator[Connections]:
        with ExitStack() as stack:
            yield {name: stack.enter_context(engine.connect()) for name, engine in self.engines.items()}


def event_of(kind: type[events.OrderEvent], order_id: UUID, **fields: Any) -> events.OrderEvent:
    """An event about an order of the customer's."""
    return kind(occurred_at=datetime.now(UTC), order_id=order_id, user_id=CUSTOMER.user_id, **fields)
