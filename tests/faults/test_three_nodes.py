"""A broker of three nodes, as in production: the node that leads is killed in turn, then two at once, under load."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, Final
from uuid import uuid4

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

FEW: Final = 5
"""So many orders running a gateway takes at the first try, or refuses, before that counts as what it does."""

AMPLE: Final = 100_000
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
    with kept_logs(ground):
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
        assert diary.wrongs == []
        assert ground.cluster.pids == before


@contextmanager
def kept_logs(ground: Ground) -> Iterator[None]:
    """Keep the logs of the nodes and the services when the block fails."""
    try:
        yield
    except BaseException:
        kept = tempfile.mkdtemp(prefix="oms-three-nodes-")
        for logs in (ground.servers.logs, ground.folder):
            shutil.copytree(logs, kept, dirs_exist_ok=True)
        print(f"the logs are in {kept}")  # noqa: T201 - whoever reads the report should know
        raise


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
        """While it is dead each gateway takes orders at the first try, and they are confirmed; nothing is lost."""
        vhost, died, revived = ground.cluster.place.vhost.name, {}, {}
        seconds: dict[str, dict[str, float]] = {}
        wishes = wishes_at_each(ground)
        nodes.wait_together(vhost)
        with under_load(ground, seed=3) as door, Watch(ground.cluster).on() as watch:
            for service, victim in zip(LED, sorted(nodes.nodes), strict=True):
                nodes.hand_over(vhost, read_by(ground, service), victim)
                died[service] = datetime.now(UTC)
                nodes.kill(victim)
                seconds[service] = until_taken(wishes)
                wait_for_orders(ground, since=died[service])
                revived[service] = datetime.now(UTC)
                nodes.restart(victim)
                nodes.wait_together(vhost)

        for service, since in died.items():
            confirmed = confirmations(ground, since)
            seconds[service] |= {
                "without an order taken": longest_gap(door.taken, since, revived[service]),
                "until a new one is confirmed": longest_gap(confirmed, since, revived[service]),
            }
            record_property(f"the leader of {service} dead, seconds", seconds[service])
        record_property("the machine's own business, seconds", round(watch.allowance, 1))
        assert max(max(each.values()) for each in seconds.values()) < RESUME_SECONDS + watch.allowance, seconds


class TestNoMajority:
    """Two of the three nodes are dead."""

    @pytest.mark.long
    def test_is_told_and_passes(self, ground: Ground, nodes: ThreeNodes, record_property: Any) -> None:
        """503 that says when to come again; nothing that was taken before is lost when they return."""
        wish = wishes_at_each(ground)[0]
        dead = sorted(nodes.nodes)[:2]
        nodes.wait_together(ground.cluster.place.vhost.name)
        with under_load(ground, seed=4):
            for node in dead:
                nodes.kill(node)
            refused = eventually(lambda: refusals(wish), "orders are refused", LONGEST_SECONDS)
            returning = datetime.now(UTC)
            nodes.restart(*dead)
            nodes.wait_together(ground.cluster.place.vhost.name)
            wait_for_orders(ground, since=returning)
            first = confirmations(ground, since=returning)[0]

        assert min(int(answer.headers["Retry-After"]) for answer in refused) >= 1
        record_property("confirmed again, seconds after their start", round((first - returning).total_seconds(), 1))


def read_by(ground: Ground, service: str) -> list[str]:
    """The queues from which the service reads calls and events."""
    return [name for name in ground.cluster.queues if name == f"rpc-{service}" or f"--{service}." in name]


def wishes_at_each(ground: Ground) -> list[Callable[[], requests.Response]]:
    """For each gateway, what places one order there and tries once; every order has an address of its own."""
    product = Client.login(ground.cluster.url, ADMIN_EMAIL, ADMIN_PASSWORD).add_product(stock=AMPLE)
    customer = Client.register(ground.cluster.url)

    def wish_at(url: str) -> Callable[[], requests.Response]:
        there = Client(url)
        there.http.headers.update(customer.http.headers)
        return lambda: there.ask("POST", "/api/order", {**a_wish(product), "shippingAddress": f"at-{uuid4()}"})

    return [wish_at(url) for url in ground.doors]


def until_taken(wishes: list[Callable[[], requests.Response]]) -> dict[str, float]:
    """After how many seconds each gateway has taken a few orders running, all of them at the first try."""
    began = monotonic()

    def seconds(wish: Callable[[], requests.Response]) -> float:
        said: list[str] = []
        while said[-FEW:] != ["201"] * FEW:
            assert monotonic() < began + LONGEST_SECONDS, f"a gateway said {said}"
            answer = wish()
            said.append(f"{answer.status_code}" if answer.ok else f"{monotonic() - began:.0f} s: {answer.text}")
        return round(monotonic() - began, 1)

    with ThreadPoolExecutor(len(wishes)) as pool:
        took = list(pool.map(seconds, wishes))
    return {f"until gateway {number} takes {FEW} running": each for number, each in enumerate(took, start=1)}


def refusals(wish: Callable[[], requests.Response]) -> list[requests.Response]:
    """The answers to some orders one after the other, if every one is refused for now; else nothing."""
    answers: list[requests.Response] = []
    while len(answers) < FEW:
        answers.append(wish())
        if answers[-1].status_code != 503:
            return []
    return answers
