"""Broken lines: each service reaches each server by a line of its own, which breaks in every way a line can."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from cli.readiness import ask
from cli.services import SERVICES
from tests.faults.trial import Trial, Watch, check_answers
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.lines import BLACK_HOLE, LATE, RESET, SILENT_DOWN, SILENT_UP, TRICKLE, Fault, Way
from tests.support.operator import Operator
from tests.support.until import eventually
from tests.support.wiring import CLEAN_GATEWAY, SERVERS, VALKEY, Wiring, uses, wired

GATEWAY = "gateway"


@dataclass(frozen=True)
class Breakage:
    """One way to break; ``is_told`` says whether every service is sure to notice by itself, whatever it is asked."""

    fault: Fault
    is_told: bool = False
    is_forgotten: bool = False


BREAKAGES = {
    "reset": Breakage(RESET, is_told=True),
    "silent to the server": Breakage(SILENT_UP, is_told=True),
    "silent to the service": Breakage(SILENT_DOWN, is_told=True),
    "black hole, then forgotten": Breakage(BLACK_HOLE, is_told=True, is_forgotten=True),
    "2 s late": Breakage(LATE),
    "1 kB/s": Breakage(TRICKLE),
    "cut after 40 bytes to the server": Breakage(Fault(up=Way(cut_after=40))),
    "cut after 40 bytes to the service": Breakage(Fault(down=Way(cut_after=40))),
    "cut after 700 bytes to the server": Breakage(Fault(up=Way(cut_after=700))),
    "cut after 1000 bytes to the service": Breakage(Fault(down=Way(cut_after=1000))),
}
SMOKE = ("reset",)


def cases() -> Iterator[Any]:
    """Each way for each server, a cut for all of them at once; the smoke does so with a reset."""
    for name, breakage in BREAKAGES.items():
        if name in SMOKE or name.startswith("cut"):
            marks = () if name in SMOKE else pytest.mark.long
            yield pytest.param(SERVERS, breakage, id=f"all servers-{name}", marks=marks)
        if not name.startswith("cut"):
            for server in SERVERS:
                yield pytest.param((server,), breakage, id=f"{server}-{name}", marks=pytest.mark.long)


@pytest.fixture(scope="module")
def wiring(cluster: Cluster) -> Iterator[Wiring]:
    """The cluster of this run, with lines."""
    with wired(cluster) as wiring:
        yield wiring


@pytest.fixture(autouse=True)
def _healed(wiring: Wiring) -> Iterator[None]:
    """Whatever a test leaves broken is mended."""
    yield
    wiring.heal()


class TestTable:
    """The list of lines."""

    def test_has_every_service_and_the_servers_it_uses(self) -> None:
        """As the classes of the services say; a new one is broken at once."""
        assert uses().keys() == set(SERVICES)
        assert sum(map(len, uses().values())) == 15
        assert uses()[GATEWAY] == ("rabbitmq", "valkey")


class TestInUse:
    """A line breaks while orders are under way."""

    @pytest.mark.parametrize(("hurt", "breakage"), list(cases()))
    def test_nothing_hangs_and_everything_recovers(
        self,
        cluster: Cluster,
        wiring: Wiring,
        admin: Client,
        operator: Operator,
        hurt: tuple[str, ...],
        breakage: Breakage,
        record_property: Any,
    ) -> None:
        """Right answers or 503 in time, at a door that is hurt itself and at one that is not; then all goes on."""
        trial = Trial(cluster, admin, operator)
        doors = (cluster.url, cluster.url_of(CLEAN_GATEWAY))

        with Watch(cluster).on() as watch:
            wiring.hurt(breakage.fault, *hurt)
            answers = trial.knock(*doors)
            if breakage.is_told:
                is_told(watch, hurt)
            answers += trial.knock(*doors)
            wiring.forget(*hurt) if breakage.is_forgotten else wiring.heal()
            record_property("recovered_s", round(trial.recovers(), 1))

        record_property("slowest_answer_s", round(check_answers(answers, watch), 1))
        watch.check()
        spared = [name for name in watch.said if name == CLEAN_GATEWAY or not {*hurt} & {*uses()[name]}]
        assert [name for name in spared if "not ready" in watch.said[name]] == []
        trial.ends_well()


def is_told(watch: Watch, servers: tuple[str, ...]) -> None:
    """Each service says what it lacks: without Redis it is degraded, without the others not ready."""
    for service in SERVICES:
        lacks = {*servers} & {*uses()[service]}
        if lacks:
            watch.until(service, "degraded" if lacks == {VALKEY} else "not ready")


class TestFromTheStart:
    """A line is a black hole when its services stop and when they start."""

    @pytest.mark.long
    @pytest.mark.parametrize("server", SERVERS)
    def test_they_end_in_good_order_and_begin_when_it_heals(
        self, cluster: Cluster, wiring: Wiring, admin: Client, operator: Operator, server: str
    ) -> None:
        """Exit code 0 in time; then alive and waiting, or at work without Redis, and nobody starts them again."""
        trial = Trial(cluster, admin, operator)
        hurt = wiring.users_of(server)
        wiring.hurt(BLACK_HOLE, server)

        assert cluster.stop(*hurt) == dict.fromkeys(hurt, 0)
        for service in hurt:
            cluster.spawn(service)
        for service in hurt:
            eventually(partial(says_so, cluster, service, server), service, seconds=60)
        trial.pids = cluster.pids
        wiring.heal()

        trial.recovers()
        trial.ends_well()


def says_so(cluster: Cluster, service: str, server: str) -> bool:
    """Whether the service answers its probe, and says that it waits for the server it needs."""
    found = ask(cluster.ports[service])
    return found.ready if server == VALKEY else "not ready" in found.reason
