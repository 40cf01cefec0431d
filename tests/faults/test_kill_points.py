"""Every service stopped at every point of its work: killed, asked to stop, frozen while another instance works."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import events
from cli.services import service_classes
from services.chassis.messaging import event_handler
from services.chassis.topology import read_wiring
from tests.faults.kill_engine import KillEngine
from tests.faults.kill_stories import STORIES
from tests.faults.kill_table import Case, every_case, every_place
from tests.faults.stops import Point, Signal
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.fixtures import check_at_rest
from tests.support.operator import Operator

VERDICT_SECONDS = 1500.0
LONG_FREEZE_SECONDS = 90.0

SMOKE = {
    (Signal.KILL, "inventory.on_order_created", Point.BEFORE_COMMIT),
    (Signal.KILL, "orders.on_payment_processed", Point.AFTER_COMMIT),
    (Signal.KILL, "charge", Point.AFTER_PROCESSOR),
    (Signal.KILL, "refund", Point.AFTER_PROCESSOR),
    (Signal.KILL, "notifications.on_order_confirmed", Point.MESSAGE_RECORDED),
    (Signal.KILL, "gateway.place_order", Point.RPC_SENT),
    (Signal.KILL, "OrderCreatedEvent", Point.PUBLISHED),
    (Signal.TERM, "payments.on_order_cancelled", Point.BEFORE_COMMIT),
    (Signal.TERM, "orders.place_order", Point.REPLY_LOST),
    (Signal.STOP, "charge", Point.BEFORE_PROCESSOR),
    (Signal.STOP, "orders.on_payment_processed", Point.BEFORE_COMMIT),
}
"""What ``./oms test`` does of the table."""

LONG_FREEZES = {
    ("inventory.on_order_created", Point.BEFORE_COMMIT),
    ("orders.on_payment_processed", Point.DELIVERED),
    ("orders.on_inventory_released", Point.AFTER_COMMIT),
    ("OrderCreatedEvent", Point.PUBLISHED),
    ("charge", Point.AFTER_PROCESSOR),
    ("refund", Point.BEFORE_PROCESSOR),
    ("notifications.on_order_confirmed", Point.MESSAGE_CLAIMED),
    ("gateway.place_order", Point.RPC_SENT),
}
"""What is frozen once more, for much longer than any deadline."""


def chosen() -> Iterator[Any]:
    """The table, most of it for ``./oms faults`` alone."""
    for case in every_case():
        is_smoke = (case.signal, case.place.subject, case.place.point) in SMOKE
        yield pytest.param(case, id=case.id, marks=() if is_smoke else pytest.mark.long)
        if case.signal is Signal.STOP and (case.place.subject, case.place.point) in LONG_FREEZES:
            longer = Case(case.place, case.signal, LONG_FREEZE_SECONDS)
            yield pytest.param(longer, id=longer.id, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def engine(
    cluster: Cluster, admin: Client, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[KillEngine]:
    """Goes through all cases of this run, in the background."""
    items = [item for item in request.session.items if item.path == request.path and hasattr(item, "callspec")]
    cases = [item.callspec.params["case"] for item in items if "case" in item.callspec.params]
    engine = KillEngine(cluster, admin, tmp_path_factory.mktemp("stops"))
    engine.start(cases)
    yield engine
    engine.close()


class TestTable:
    """The list of what is stopped where."""

    def test_has_every_handler_and_event_of_the_code(self) -> None:
        """Whatever a service subscribes to or publishes is in it, for every signal."""
        wirings = [read_wiring(service) for service in service_classes()]
        handlers = {f"{each.service}.{each.method}" for wiring in wirings for each in wiring.subscriptions}
        published = {kind.__name__ for kind in events.ALL}

        for signal in Signal:
            covered = {case.place.subject for case in every_case() if case.signal is signal}
            assert handlers | published <= covered

    def test_covers_a_new_handler_at_once(self) -> None:
        """A class with one handler more has its points, and nobody wrote them down."""

        class Newcomer:
            name = "newcomer"

            @event_handler("orders", events.OrderShippedEvent, once=False)
            def on_order_shipped(self, event: events.OrderShippedEvent) -> None:
                """Nothing."""

        found = {place.point for place in every_place([Newcomer])}
        assert {Point.DELIVERED, Point.AFTER_ACK} <= found

    def test_knows_a_story_for_every_cause(self) -> None:
        """For each event, call, route and timer it is known how to make it happen."""
        assert {case.place.cause for case in every_case()} <= STORIES.keys()

    def test_passes_every_point(self) -> None:
        """No point of the saga's list is without a case."""
        assert {case.place.point for case in every_case()} == set(Point)


class TestStopped:
    """A process is stopped at one point of its work."""

    @pytest.mark.parametrize("case", list(chosen()))
    def test_everything_ends_as_it_should(
        self, engine: KillEngine, case: Case, record_property: Callable[[str, object], None]
    ) -> None:
        """The order ends as its story says, in every book, and each mail is there once."""
        verdict = engine.verdicts[case].result(VERDICT_SECONDS)
        for name, value in verdict.figures.items():
            record_property(name, value)

    def test_nothing_else_goes_wrong(self, engine: KillEngine, cluster: Cluster, operator: Operator) -> None:
        """When all cases are over every invariant holds, there is no dead letter, and no process died on its own."""
        for verdict in engine.verdicts.values():
            verdict.exception(VERDICT_SECONDS)

        check_at_rest(cluster, operator)
        assert operator.dead_letters() == []
        assert engine.stops.unexplained() == set()
