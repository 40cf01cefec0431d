"""The walls of the house: who may import what, and who says what to whom."""

import ast
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import events
from cli.lint import SOURCES
from gateway import GatewayService
from services.chassis.topology import read_wiring
from services.inventory.service import InventoryService
from services.notifications.service import NotificationsService
from services.orders.service import OrdersService
from services.payments.service import PaymentsService
from services.users.service import UsersService

CHECKOUT = Path(__file__).resolve().parent.parent
SERVICES: list[Any] = [
    GatewayService,
    UsersService,
    OrdersService,
    InventoryService,
    PaymentsService,
    NotificationsService,
]

SAGA = {
    "OrderCreatedEvent": ("orders", {"inventory"}),
    "InventoryReservedEvent": ("inventory", {"payments"}),
    "InventoryReservationFailedEvent": ("inventory", {"orders", "notifications"}),
    "PaymentProcessedEvent": ("payments", {"orders", "notifications"}),
    "PaymentFailedEvent": ("payments", {"orders", "notifications"}),
    "OrderConfirmedEvent": ("orders", {"notifications"}),
    "OrderCancelledEvent": ("orders", {"inventory", "payments", "notifications"}),
    "OrderShippedEvent": ("orders", {"inventory", "notifications"}),
    "OrderDeliveredEvent": ("orders", {"notifications"}),
    "InventoryReleasedEvent": ("inventory", {"orders"}),
    "PaymentVoidedEvent": ("payments", {"orders"}),
    "PaymentRefundedEvent": ("payments", {"orders", "notifications"}),
    "ProductChangedEvent": ("inventory", {"orders"}),
}
"""The table of the saga: each event's one publisher and its consumers."""


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def events_made_in(service: str) -> set[str]:
    """The event classes that a service's code calls."""
    return {
        node.func.id
        for path in (CHECKOUT / "services" / service).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SAGA
    }


class TestImports:
    """Data travels one way."""

    def test_import_linter_keeps_every_contract(self) -> None:
        """A new room fails here until it is given a place."""
        command = [sys.executable, str(Path(sys.executable).with_name("lint-imports"))]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)}

        run = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)

        assert run.returncode == 0, run.stdout

    def test_the_events_import_only_the_standard_library(self) -> None:
        """So that anything may import them."""
        assert {name.partition(".")[0] for name in imports_of(CHECKOUT / "events.py")} <= sys.stdlib_module_names

    def test_the_gateway_knows_the_chassis_and_schemas_only(self) -> None:
        """It has no business and no SQL."""
        own = [name for name in imports_of(CHECKOUT / "gateway.py") if name.startswith(("services", "events", "cli"))]

        assert [name for name in own if not name.startswith("services.chassis") and not name.endswith(".schemas")] == []

    def test_neither_the_chassis_nor_a_service_knows_the_gateway(self) -> None:
        """And the chassis knows no event."""
        for path in (CHECKOUT / "services").rglob("*.py"):
            forbidden = {"gateway", "cli"} | ({"events"} if "chassis" in path.parts else set())
            assert forbidden.isdisjoint(name.partition(".")[0] for name in imports_of(path)), path


class TestEvents:
    """Every event has one publisher, and the consumers of the saga's table."""

    def test_all_thirteen_are_there(self) -> None:
        """Neither more nor fewer."""
        assert {kind.__name__ for kind in events.ALL} == set(SAGA)

    def test_each_is_made_by_its_publisher_alone(self) -> None:
        """In the code, not only in the table."""
        made = defaultdict(set)
        for service in SERVICES:
            for event in events_made_in(service.name):
                made[event].add(service.name)

        assert made == {event: {publisher} for event, (publisher, _) in SAGA.items()}

    def test_each_says_who_publishes_it(self) -> None:
        """The class agrees with the table."""
        assert {kind.__name__: kind.publisher for kind in events.ALL} == {
            event: publisher for event, (publisher, _) in SAGA.items()
        }

    def test_each_is_consumed_as_the_table_says(self) -> None:
        """From the publisher's exchange."""
        consumers: dict[str, set[str]] = defaultdict(set)
        for service in SERVICES:
            for subscription in read_wiring(service).subscriptions:
                assert subscription.source == SAGA[subscription.event][0]
                consumers[subscription.event].add(subscription.service)

        assert consumers == {event: consumers for event, (_, consumers) in SAGA.items()}

    def test_every_call_meets_a_method(self) -> None:
        """No RPC proxy names a method that its target does not have."""
        wirings = [read_wiring(service) for service in SERVICES]
        methods = {method for wiring in wirings for method in wiring.methods}

        assert {call for wiring in wirings for call in wiring.calls} <= methods
