"""The AsyncAPI document is valid, tells of every event and handler, and its examples are events."""

import json
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

import events
from cli.services import service_classes
from services.chassis import wire
from services.chassis.topology import read_wiring
from tests.support.contract import Json, read

DOCUMENT: Final = read("asyncapi.json")
SCHEMA: Final[Json] = json.loads((Path(__file__).parent / "schemas" / "asyncapi-3.0.0.json").read_text())
EACH: Final = pytest.mark.parametrize("kind", events.ALL, ids=lambda kind: kind.__name__)


def test_is_valid() -> None:
    """By the specification's own schema."""
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(DOCUMENT)] == []


def test_leads_everywhere() -> None:
    """No reference to what is not there."""
    for reference in references(DOCUMENT):
        found: Any = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]

        assert found


def references(value: Any) -> list[str]:
    """Every ``$ref`` in it."""
    if isinstance(value, list):
        return [each for inner in value for each in references(inner)]
    if not isinstance(value, dict):
        return []
    inside = [each for inner in value.values() for each in references(inner)]
    return [*inside, value["$ref"]] if "$ref" in value else inside


def test_tells_of_every_handler() -> None:
    """With its service and its queue."""
    wired = {each.queue for service in service_classes() for each in read_wiring(service).subscriptions}
    told = {each["x-queue"] for each in DOCUMENT["operations"].values() if each["action"] == "receive"}

    assert told == wired


@EACH
class TestEvent:
    """What is said of each event."""

    def test_has_one_publisher(self, kind: type[events.Event]) -> None:
        """On its exchange."""
        name = kind.__name__
        operation = DOCUMENT["operations"][f"{kind.publisher}.publish.{name}"]
        channel = DOCUMENT["channels"][name]

        assert (operation["action"], operation["x-service"]) == ("send", kind.publisher)
        assert channel["address"] == name
        assert channel["bindings"]["amqp"]["exchange"]["name"] == f"{kind.publisher}.events"

    def test_shows_one(self, kind: type[events.Event]) -> None:
        """The example is an event that a service would take, and fits its schema."""
        (example,) = DOCUMENT["components"]["messages"][kind.__name__]["examples"]
        schema = {**DOCUMENT["components"]["schemas"][kind.__name__], "components": DOCUMENT["components"]}

        assert wire.build(example["payload"], kind).event_type == kind.__name__
        assert [error.message for error in Draft7Validator(schema).iter_errors(example["payload"])] == []
