"""The hand-written tables of the fault suite name all that the code has; a forgotten line shows without a cluster."""

from typing import Any
from uuid import uuid4

import pytest

import events
from cli.services import service_classes
from services.chassis import wire
from services.chassis.topology import read_wiring
from services.inventory.transitions import TRANSITIONS as STOCK
from services.orders.transitions import TRANSITIONS as ORDERS
from services.orders.transitions import Cell, Trigger
from tests.faults.message_cases import ACTS, ASK, SEEN, Case
from tests.faults.message_letters import KINDS
from tests.faults.message_lies import BELIEVED, CALLED
from tests.faults.repair_alarms import FIELDS
from tests.faults.repair_stories import the_broker_gave_up
from tests.faults.repair_table import STORIES

NAMES = {kind.__name__: kind for kind in events.ALL}
OF_ORDERS = {name for name, kind in NAMES.items() if issubclass(kind, events.OrderEvent)}
ACTED = set(ACTS.values())


def heard_by(service: str) -> set[str]:
    """The events of orders that the service subscribes to."""
    wirings = (read_wiring(each) for each in service_classes())
    return {each.event for wiring in wirings for each in wiring.subscriptions if each.service == service} & OF_ORDERS


class TestStories:
    """What each service sees of an order, in every order of arrival."""

    @pytest.mark.parametrize("service", ["orders", "inventory", "payments", "notifications"])
    def test_have_every_event_of_every_service(self, service: str) -> None:
        """Whatever it subscribes to reaches it in one of the stories, and nothing else does."""
        steps = {step for seen in SEEN.values() for step in seen.get(service, ())} - {ASK, *ACTS}

        assert {Case("").event(step).event_type for step in steps} == heard_by(service)

    def test_have_every_trigger_of_an_order(self) -> None:
        """Those that are no events are acts, and each is done."""
        steps = {step for seen in SEEN.values() for step in seen["orders"]}

        assert {trigger for trigger in ORDERS if trigger.value not in NAMES} == ACTED
        assert steps >= ACTS.keys()
        assert {trigger.value for trigger in set(Trigger) - ACTED} == heard_by("orders")

    def test_have_every_trigger_of_a_reservation(self) -> None:
        """As the table of inventory has them."""
        assert {kind.__name__ for kind in STOCK} == heard_by("inventory")


class TestLies:
    """Well-formed events that are not true."""

    def test_are_told_of_every_event_of_an_order(self) -> None:
        """Each by the name that the stories have for it."""
        assert CALLED.keys() == OF_ORDERS
        assert {name: Case("").event(called).event_type for name, called in CALLED.items()} == {
            name: name for name in CALLED
        }

    def test_are_believed_by_handlers_that_exist(self) -> None:
        """One that was renamed would be asked for what it cannot know."""
        subscriptions = [each for service in service_classes() for each in read_wiring(service).subscriptions]

        assert {f"{each.service}.{each.method}" for each in subscriptions} >= BELIEVED


class TestAlarms:
    """Every cell of the tables that says alarm."""

    def test_have_the_fields_of_every_event(self) -> None:
        """Of those with such a cell, and no others."""
        alarming = {trigger.value for trigger, row in ORDERS.items() if Cell.ALARM in row.values()}
        alarming |= {kind.__name__ for kind, row in STOCK.items() if any(cell.alarm for cell in row.values())}

        assert FIELDS.keys() == alarming

    @pytest.mark.parametrize("name", FIELDS)
    def test_make_events_that_can_be_read(self, name: str) -> None:
        """With the order's and the customer's ids."""
        about: dict[str, Any] = {"occurred_at": wire.now_text(), "order_id": str(uuid4()), "user_id": str(uuid4())}

        assert wire.build({**about, **FIELDS[name]}, NAMES[name]).event_type == name


class TestLetters:
    """What is left in the dead letters."""

    def test_are_healed_of_every_kind(self) -> None:
        """Whatever the chassis gives up for, and the broker by itself."""
        assert the_broker_gave_up.__name__ in STORIES  # to import a module puts its stories into the table
        assert {kind for story in STORIES.values() for kind in story.kinds} == KINDS
