"""The diagram and the tables of ``docs/architecture.md`` show every process, arrow, queue and place for data."""

import re
from typing import Any, Final

import pytest

from cli.configuration import configuration
from cli.databases import DATABASES
from cli.services import SERVICES, service_classes
from cli.state import CHECKOUT
from cli.topology import wanted
from events import OrderDeliveredEvent
from services.chassis.http import HttpEntrypoint
from services.chassis.messaging import EventHandler, event_handler
from services.chassis.rpc import Rpc
from services.chassis.rpc_proxy import RpcProxy
from services.chassis.timer import Timer
from services.chassis.topology import entrypoints_of, read_wiring
from services.chassis.worker import Worker
from services.payments.service import PaymentsService
from tests.deploy.facts import cache_users
from tests.support.diagram import OUTSIDE, diagram
from tests.support.pages import DOCS

PAGE: Final = (DOCS / "architecture.md").read_text()
CALL: Final = re.compile(r'^ *(\w+) -->\|"(.+)"\| (\w+)$', re.MULTILINE)
TELL: Final = re.compile(r'^ *(\w+) -\. "(.+)" \.-> (\w+)$', re.MULTILINE)
KEEP: Final = re.compile(r'^ *(\w+) --- (\w+)\[\("(.+)"\)\]$', re.MULTILINE)
BOX: Final = re.compile(r'^ *(\w+)\["(\w+)<br/>port (\d+)"\]$', re.MULTILINE)
ROW: Final = re.compile(r"^\| `(\w+)` \| .*? \| (?:`(\w+)`|-) \| (\d+, \d+) \| (.*?) \|$", re.MULTILINE)
KINDS: Final = {HttpEntrypoint: "HTTP", Rpc: "RPC", EventHandler: "events", Timer: "timer", Worker: "worker"}


def arrows(pattern: re.Pattern[str], text: str) -> set[tuple[str, str, str]]:
    """From, what, to: one for each line of an arrow's label."""
    return {(source, what, target) for source, label, target in pattern.findall(text) for what in label.split("<br/>")}


class TestDiagram:
    """Of the page, held against the classes themselves."""

    def test_has_every_process_with_its_port(self) -> None:
        """The port of config.yaml."""
        ports = {(name, name, str(port)) for name, port in configuration()["HTTP_PORTS"].items()}

        assert set(BOX.findall(PAGE)) == ports
        assert {name for name, _, _ in ports} == SERVICES.keys()

    def test_has_every_event_at_each_of_its_handlers(self) -> None:
        """No more and no fewer."""
        heard = {
            (each.source, each.event, each.service)
            for service in service_classes()
            for each in read_wiring(service).subscriptions
        }

        assert arrows(TELL, PAGE) == heard

    def test_has_every_method_that_is_called(self) -> None:
        """By whoever calls it."""
        called = {
            (wiring.name, call.partition(".")[2], call.partition(".")[0])
            for wiring in map(read_wiring, service_classes())
            for call in wiring.calls
        }

        assert arrows(CALL, PAGE) == called

    def test_has_every_place_for_data(self) -> None:
        """Databases at their owners, as config.yaml has them; Redis at whoever keeps copies."""
        uris = configuration()["DB_URIS"]
        owned = {(key.partition(":")[0], uri.rpartition("/")[2]) for key, uri in uris.items()}
        kept = KEEP.findall(PAGE)

        assert owned == set(DATABASES.items())
        assert {(name, label) for name, _, label in kept if label != "Redis"} == owned
        assert {name for name, _, label in kept if label == "Redis"} == cache_users()

    def test_has_the_world_outside(self) -> None:
        """Whoever has a room for it."""
        clients = {name for name in SERVICES if (CHECKOUT / "services" / name / "clients.py").exists()}

        assert OUTSIDE.keys() == clients
        assert all(f"{name} --> {name}_outside" in PAGE for name in clients)
        assert 'client(["HTTP client"]) --> gateway' in PAGE

    def test_changes_with_the_code(self) -> None:
        """One more handler, one more call: two more arrows, so the page would be wrong."""

        class Payments(PaymentsService):
            users_rpc = RpcProxy("users", "get_contact")

            @event_handler("orders", OrderDeliveredEvent)
            def on_order_delivered(self, event: OrderDeliveredEvent, work: Any) -> None:
                """What is new."""

        drawn = diagram([each for each in service_classes() if each is not PaymentsService] + [Payments])

        assert arrows(TELL, drawn) - arrows(TELL, PAGE) == {("orders", "OrderDeliveredEvent", "payments")}
        assert arrows(CALL, drawn) - arrows(CALL, PAGE) == {("payments", "get_contact", "users")}


class TestTables:
    """The services and the queues."""

    def test_of_queues_names_each_once(self) -> None:
        """Every queue that the topology makes."""
        rows = PAGE.partition("<!-- table: queues -->")[2].partition("<!-- end -->")[0]
        named = re.findall(r"`([^`]+)`", rows)

        assert sorted(named) == sorted(queue.name for queue in wanted().queues)

    @pytest.mark.parametrize("service", service_classes(), ids=SERVICES)
    def test_of_services_says_where_each_is_and_what_wakes_it(self, service: type) -> None:
        """Database, ports and kinds of entrypoints."""
        rows = {name: (database, ports, kinds) for name, database, ports, kinds in ROW.findall(PAGE)}
        name = str(getattr(service, "name"))  # noqa: B009 - mypy does not know that Nameko insists on one
        database, ports, kinds = rows[name]

        assert database == DATABASES.get(name, "")
        assert ports == f"{SERVICES[name].http_port}, {SERVICES[name].https_port}"
        woken_by = {KINDS[kind] for _, each in entrypoints_of(service) for kind in KINDS if isinstance(each, kind)}
        assert {word for word in KINDS.values() if word in kinds} == woken_by
