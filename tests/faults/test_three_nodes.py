"""A broker of three nodes, as in production: the node that leads is killed in turn, then two at once, under load."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import requests

from cli.servers.endpoints import Endpoints
from cli.services import SERVICES
from tests.chaos import verdict
from tests.chaos.diary import Diary
from tests.chaos.door import Answer, Door, Tally
from tests.chaos.ground import Ground
from tests.chaos.load import Load
from tests.chaos.run import see_off
from tests.faults.trial import Watch
from tests.support.client import Client, a_wish
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster
from tests.support.fixtures import made_place
from tests.support.three_nodes import SIZE, ThreeNodes
from tests.support.until import eventually

RATE: Final = 3.0
RESUME_SECONDS: Final = 15.0
LED: Final = ("inventory", "payments", "orders")
ENOUGH: Final = 10
"""So many orders that were placed since a node died are confirmed before it may return."""

LONGEST_SECONDS: Final = 90.0
_CONFIRMED: Final = """
    SELECT orders.created_at AS placed, outbox.created_at AS confirmed FROM outbox JOIN orders ON orders.id = order_id
    WHERE event_type = 'OrderConfirmedEvent' ORDER BY outbox.created_at"""


@pytest.fixture(scope="module", autouse=True)
def _ends_well() -> None:
    """The cluster of this module is judged by each test."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[ThreeNodes]:
    """Three nodes of a broker, not yet started."""
    folder = Path(tempfile.mkdtemp(prefix="oms-nodes-"))
    nodes = ThreeNodes(folder)
    try:
        yield nodes
    finally:
        nodes.remove()


@pytest.fixture(scope="module")
def ground(
    nodes: ThreeNodes,
    servers: Endpoints,
    database_template: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ground]:
    """Two instances of every service at work on them."""
    folder = tmp_path_factory.mktemp("three-nodes")
    with made_place(replace(nodes.form(), postgres_url=servers.postgres_url), database_template, folder) as place:
        cluster = Cluster(place)
        try:
            cluster.start(*SERVICES, instances=2)
            yield Ground(folder, nodes, cluster, instances=2)
        finally:
            cluster.down()


class Clocked(Door):
    """Notes when orders were taken."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground.doors, Tally(), lambda: True)
        self.taken: list[datetime] = []

    def ask(self, what: str, *args: Any, **kwargs: Any) -> Answer:
        """The answer, unchanged."""
        answer = super().ask(what, *args, **kwargs)
        if (what, answer.outcome) == ("place", "201"):
            self.taken.append(datetime.now(UTC))
        return answer


@contextmanager
def under_load(ground: Ground, seed: int) -> Iterator[Clocked]:
    """Customers at a steady rate while the block runs; then every promise was kept, by the processes of the beginning.

    Nothing was lost, nothing was done twice, every order has come to its end.
    """
    before = ground.cluster.pids
    door = Clocked(ground)
    diary = Diary(ground.folder / f"diary-{seed}")
    load = Load(ground, door, diary, seed, RATE)
    load.begin()
    try:
        wait_for_orders(ground, datetime.now(UTC))
        yield door
        verdict.calm(ground, diary)
    finally:
        load.close()
        see_off(load, diary)
    verdict.rest(ground, diary)
    verdict.judge(ground, diary, load.book)
    if diary.wrongs:
        shutil.copytree(ground.servers.logs, ground.folder, dirs_exist_ok=True)
    assert diary.wrongs == [], f"the logs are in {ground.folder}"
    assert ground.cluster.pids == before


def confirmations(ground: Ground, since: datetime) -> list[datetime]:
    """When orders that were placed since then were confirmed."""
    return [row["confirmed"] for row in ground.cluster.rows("orders", _CONFIRMED) if row["placed"] > since]


def wait_for_orders(ground: Ground, since: datetime) -> None:
    """Wait until enough that were placed since then are confirmed."""
    eventually(lambda: len(confirmations(ground, since)) >= ENOUGH, "orders are confirmed", LONGEST_SECONDS)


def longest_gap(moments: Iterable[datetime], begin: datetime, end: datetime) -> float:
    """The most seconds between those dates without any of the moments."""
    points = [begin, *sorted(moment for moment in moments if begin < moment < end), end]
    return round(max(later - earlier for earlier, later in pairwise(points)).total_seconds(), 1)


class TestTopology:
    """The broker has three nodes."""

    @pytest.mark.long
    def test_has_a_member_of_every_queue_on_each(self, ground: Ground, nodes: ThreeNodes) -> None:
        """Also of those for calls: whatever a service reads is there without any one node."""
        vhost = ground.cluster.place.vhost.name
        nodes.wait_together(vhost)

        members = {name: len(queue["members"]) for name, queue in nodes.quorum_queues(vhost).items()}

        assert members == dict.fromkeys(ground.cluster.queues, SIZE)


class TestDeadLeader:
    """The node that leads the queues of a service is killed under load, one node after the other."""

    @pytest.mark.long
    def test_is_missed_for_less_than_15_seconds(self, ground: Ground, nodes: ThreeNodes, record_property: Any) -> None:
        """Orders are taken and confirmed while it is dead; nothing is lost, and nothing happens twice."""
        vhost, left, died, revived = ground.cluster.place.vhost.name, {*nodes.nodes}, {}, {}
        nodes.wait_together(vhost)
        with under_load(ground, seed=3) as door, Watch(ground.cluster).on() as watch:
            for service in LED:
                victim = leader(nodes, vhost, service, left)
                left.remove(victim)
                died[service] = datetime.now(UTC)
                nodes.kill(victim)
                wait_for_orders(ground, since=died[service])
                revived[service] = datetime.now(UTC)
                nodes.restart(victim)
                nodes.wait_together(vhost)

        for service in LED:
            seconds = {
                "without an order taken": longest_gap(door.taken, died[service], revived[service]),
                "until a new one is confirmed": longest_gap(
                    confirmations(ground, since=died[service]), died[service], revived[service]
                ),
            }
            record_property(f"the leader of {service} dead, seconds", seconds)
            assert max(seconds.values()) < RESUME_SECONDS + watch.allowance


class TestNoMajority:
    """Two of the three nodes are dead."""

    @pytest.mark.long
    def test_is_told_and_passes(self, ground: Ground, nodes: ThreeNodes, record_property: Any) -> None:
        """503 that says when to come again; nothing that was taken before is lost when they return."""
        customer = Client.register(ground.cluster.url)
        product = Client.login(ground.cluster.url, ADMIN_EMAIL, ADMIN_PASSWORD).add_product(stock=100)
        dead = sorted(nodes.nodes)[:2]
        nodes.wait_together(ground.cluster.place.vhost.name)
        with under_load(ground, seed=4):
            for node in dead:
                nodes.kill(node)
            eventually(lambda: try_to_place(customer, product).status_code == 503, "refused", LONGEST_SECONDS)
            refused = [try_to_place(customer, product) for _ in range(ENOUGH)]
            returning = datetime.now(UTC)
            with ThreadPoolExecutor() as pool:
                list(pool.map(nodes.restart, dead))
            nodes.wait_together(ground.cluster.place.vhost.name)
            wait_for_orders(ground, since=returning)
            first = confirmations(ground, since=returning)[0]

        assert {answer.status_code for answer in refused} == {503}
        assert min(int(answer.headers["Retry-After"]) for answer in refused) >= 1
        record_property("confirmed again, seconds after their start", round((first - returning).total_seconds(), 1))


def leader(nodes: ThreeNodes, vhost: str, service: str, among: set[str]) -> str:
    """Which of these nodes leads most of the queues that the service reads."""
    queues = nodes.leaders(vhost).items()
    led = Counter(node for name, node in queues if name == f"rpc-{service}" or f"--{service}." in name)
    return max(sorted(among), key=lambda node: led[node])


def try_to_place(customer: Client, product: str) -> requests.Response:
    """Whatever comes of one order."""
    return customer.ask("POST", "/api/order", a_wish(product))
