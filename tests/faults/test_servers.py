"""Servers in trouble: short of memory, disk or connections, locked, restarted; elsewhere they are killed and frozen."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from cli.databases import DATABASES
from cli.servers.private import Servers
from cli.trouble import Trouble
from tests.faults.fault_report import SAID
from tests.faults.server_troubles import (
    ALARMS,
    alarmed,
    full_redis,
    on_full_disk,
    refusing_rows,
    without_connections,
)
from tests.faults.trial import Trial, Watch, check_answers
from tests.support.client import Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import mails
from tests.support.operator import Operator
from tests.support.until import eventually

MOST_ORDERS = 400


class Ward:
    """Puts one cluster through its troubles."""

    def __init__(self, cluster: Cluster, admin: Client, operator: Operator, record: Any) -> None:
        self.cluster = cluster
        self.admin = admin
        self.operator = operator
        self.record = record

    @contextmanager
    def trial(self, trouble: AbstractContextManager[None]) -> Iterator[tuple[Trial, Watch]]:
        """A trial in the midst of that trouble; afterwards all must have gone on by itself."""
        trial = Trial(self.cluster, self.admin, self.operator)
        with Watch(self.cluster).on() as watch:
            with trouble:
                answers = trial.knock(self.cluster.url)
                yield trial, watch
                answers += trial.knock(self.cluster.url)
            self.record("recovered_s", round(trial.recovers(), 1))
        self.record("slowest_answer_s", round(check_answers(answers, watch), 1))
        watch.check()
        trial.ends_well()


@pytest.fixture
def ward(cluster: Cluster, admin: Client, operator: Operator, record_property: Any) -> Ward:
    """For the cluster of this run."""
    return Ward(cluster, admin, operator, record_property)


class TestBrokerAlarm:
    """The broker lacks memory or disk, and takes no messages."""

    @pytest.mark.long
    @pytest.mark.parametrize("alarm", ALARMS)
    def test_is_told_and_passes(self, ward: Ward, private_servers: Servers, alarm: str) -> None:
        """503 at the door, which says itself that it is not ready; what was committed leaves afterwards."""
        with ward.trial(alarmed(private_servers, alarm)) as (_, watch):
            watch.until("gateway", "not ready")


class TestConnections:
    """PostgreSQL has no connection left."""

    @pytest.mark.long
    def test_is_told_and_passes(self, ward: Ward, cluster: Cluster) -> None:
        """503 at the door; the services find their way back as soon as there is one."""
        with ward.trial(without_connections(cluster)) as (_, watch):
            for service in DATABASES:
                watch.until(service, "not ready")


class TestDisk:
    """PostgreSQL's disk is full."""

    def test_refuses_what_is_new_and_passes(self, ward: Ward, cluster: Cluster) -> None:
        """Who only reads is answered; the rest is 503, and events wait."""
        with ward.trial(refusing_rows(cluster)) as (trial, _):
            assert trial.customer.order(trial.settled)["status"] == "Confirmed"
            assert is_refused(trial)

    @pytest.mark.long
    def test_is_survived_where_it_really_is_full(self, ward: Ward, cluster: Cluster, private_servers: Servers) -> None:
        """Tables on a disk without a free byte: what no longer fits is 503 until there is room again."""
        folder = private_servers.recipes.postgres.home / "small-disk"
        with ward.trial(full_disk(cluster, folder, ward.record)) as (trial, _):
            assert any(is_refused(trial) for _ in range(MOST_ORDERS))


@contextmanager
def full_disk(cluster: Cluster, folder: Path, record: Any) -> Iterator[None]:
    """The tables on a full disk; where none can be mounted, PostgreSQL saying so of every row."""
    with ExitStack() as disk:
        try:
            disk.enter_context(on_full_disk(cluster, folder))
        except Trouble as reason:
            record(SAID, str(reason))
            disk.enter_context(refusing_rows(cluster))
        yield


def is_refused(trial: Trial) -> bool:
    """Whether an order is refused for now."""
    return trial.customer.ask("POST", "/api/order", a_wish(trial.product)).status_code == 503


class TestLockedRow:
    """Somebody else holds the row of a product, and that of an order."""

    @pytest.mark.parametrize("seconds", [5, pytest.param(30, marks=pytest.mark.long)])
    def test_holds_up_nobody_else(self, ward: Ward, cluster: Cluster, admin: Client, seconds: int) -> None:
        """Who needs it is refused in time, or waits as long as it lasts; others go on meanwhile."""
        locked = admin.add_product(stock=5)
        with ward.trial(held(cluster, "inventory", "products", locked)) as (trial, _):
            customer = trial.customer
            waiting = customer.place(locked)
            with held(cluster, "orders", "orders", trial.settled):
                cancelling = customer.ask("POST", f"/api/order/{trial.settled}/cancel", {"reason": "x"})
            adjusting = admin.ask("POST", f"/api/inventory/products/{locked}/stock", {"delta": 1, "reason": "x"})
            others_go_on(trial, seconds)
            assert customer.order(waiting)["status"] == "Pending"

        assert [cancelling.status_code, adjusting.status_code] == [503, 503]
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in (cancelling, adjusting))
        trial.customer.wait_for(waiting, "Confirmed", seconds=60)
        assert admin.stock(locked) == (5, 1)


def held(cluster: Cluster, service: str, table: str, row_id: str) -> AbstractContextManager[None]:
    """Somebody else's lock on that row."""
    return cluster.held(service, f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", row_id)  # noqa: S608 - our tables


def others_go_on(trial: Trial, seconds: float) -> None:
    """For that long, one order after the other gets through."""
    end = monotonic() + seconds
    while monotonic() < end:
        trial.customer.wait_for(trial.customer.place(trial.product), "Confirmed", seconds=60)


class TestFullRedis:
    """Redis takes nothing new, and forgets nothing."""

    def test_is_missed_by_the_mails_alone(self, ward: Ward, cluster: Cluster) -> None:
        """Every answer is right, a token that was given back is refused, and the mails come afterwards."""
        with ward.trial(full_redis(cluster)) as (trial, _):
            leaving = Client.register(cluster.url)
            assert leaving.ask("GET", "/api/auth/me").status_code == 200
            assert leaving.ask("POST", "/api/auth/logout").status_code == 204
            assert leaving.ask("GET", "/api/auth/me").status_code == 401
            order_id = trial.customer.place(trial.product)
            trial.customer.wait_for(order_id, "Confirmed", seconds=60)
            assert mails(cluster, order_id) == []

        eventually(lambda: mails(cluster, order_id) == ["confirmation", "receipt"], "the mails", seconds=60)


class TestRestart:
    """A server is restarted in good order, as an upgrade does."""

    @pytest.mark.long
    @pytest.mark.parametrize("server", ["postgres", "rabbitmq", "valkey"])
    def test_is_survived(self, ward: Ward, private_servers: Servers, server: str) -> None:
        """With orders under way, and without a restart of any service."""
        with ward.trial(nullcontext()):
            private_servers.restart(server)
