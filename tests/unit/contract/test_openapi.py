"""The OpenAPI document is valid, up to date, complete, and its examples are what it says."""

import ast
import inspect
import re
from argparse import Namespace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from openapi_spec_validator import validate

from cli import contract
from cli.contract import documents
from cli.contract_codes import refusals
from cli.contract_openapi import routes
from cli.contract_operations import ELSEWHERE, OPERATIONS
from cli.services import SERVICES, service_classes
from gateway import GatewayService
from services.chassis.schema import Schema, camel_case
from tests.support.contract import Contract, Operation, read

CONTRACT: Final = Contract(read("openapi.json"))
EACH: Final = pytest.mark.parametrize("operation", [*CONTRACT.operations()], ids=lambda operation: operation.name)


def test_is_what_the_code_says() -> None:
    """Else run ``./oms contract``."""
    stale = [file.name for file, text in documents().items() if file.read_text() != text]

    assert stale == []


def test_says_what_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--check`` fails and writes nothing; without it the file is written."""
    draft = tmp_path / "openapi.json"
    monkeypatch.setattr(contract, "CHECKOUT", tmp_path)
    monkeypatch.setattr(contract, "documents", lambda: {draft: "{}"})

    checked, existed = contract.run(Namespace(check=True)), draft.exists()
    written, again = contract.run(Namespace(check=False)), contract.run(Namespace(check=True))

    assert (checked, existed, written, again) == (1, False, 0, 0)
    assert draft.read_text() == "{}"
    assert capsys.readouterr().out == "Out of date: openapi.json\nWritten: openapi.json\n"


def test_is_valid() -> None:
    """By the specification's own schema."""
    validate(read("openapi.json"))


def test_has_every_route() -> None:
    """Each method and path of the gateway, under a name of its own."""
    said = [(each.name, each.method, each.path) for each in CONTRACT.operations()]

    assert sorted(said) == sorted((camel_case(route.name), route.method, route.path) for route in routes())
    assert len({name for name, _, _ in said}) == len(OPERATIONS)


def test_tells_every_code() -> None:
    """Whatever a client may be refused with; what no client meets is named as such."""
    responses = CONTRACT.document["components"]["responses"].values()
    told = {code for response in responses for code in response["content"]["application/problem+json"]["examples"]}

    assert told | ELSEWHERE == set(refusals())
    assert told & ELSEWHERE == set()


@EACH
class TestOperation:
    """What each operation says."""

    def test_says_what_it_is_for(self, operation: Operation) -> None:
        """In the words of its docstring."""
        tags = {tag["name"] for tag in CONTRACT.document["tags"]}

        assert operation.said["summary"]
        assert operation.said["description"].endswith(".")
        assert set(operation.said["tags"]) <= tags

    def test_is_as_closed_as_the_gateway(self, operation: Operation) -> None:
        """A token where the handler wants one, and then 401 is among the answers."""
        (route,) = (each for each in routes() if camel_case(each.name) == operation.name)

        assert operation.is_closed == route.signed_in
        if route.signed_in:
            assert "401" in operation.said["responses"]

    def test_shows_what_it_takes(self, operation: Operation) -> None:
        """Each example of a body is one that its schema allows."""
        if "requestBody" in operation.said:
            assert operation.examples
        for body in operation.examples.values():
            if body is not None:
                assert CONTRACT.complaints(operation.json_body["schema"], body) == []

    def test_shows_what_it_gives(self, operation: Operation) -> None:
        """The example of the answer is one that its schema allows."""
        for media_type in operation.said["responses"][str(operation.good)].get("content", {}).values():
            assert CONTRACT.complaints(media_type["schema"], media_type["example"]) == []

    def test_leads_on_to_what_there_is(self, operation: Operation) -> None:
        """Each link names an operation and each of its ids, which stand in the example of the answer."""
        ids = {each.name: set(re.findall(r"{(\w+)}", each.path)) for each in CONTRACT.operations()}
        said = operation.said["responses"][str(operation.good)]
        for link in said.get("links", {}).values():
            assert link["parameters"].keys() == ids[link["operationId"]]
            for source in link["parameters"].values():
                found = said["content"]["application/json"]["example"]
                for step in source.removeprefix("$response.body#/").split("/"):
                    found = found[int(step) if step.isdigit() else step]
                assert UUID(found)

    def test_shows_how_it_refuses(self, operation: Operation) -> None:
        """Each code has a problem document with its own status."""
        for status, reference in operation.said["responses"].items():
            for media_type in CONTRACT.resolved(reference).get("content", {}).values():
                for code, example in media_type.get("examples", {}).items():
                    assert CONTRACT.complaints(media_type["schema"], example["value"]) == []
                    assert (example["value"]["code"], example["value"]["status"]) == (code, int(status))


@pytest.mark.parametrize("name", OPERATIONS)
def test_names_the_schemas_that_the_service_reads_with(name: str) -> None:
    """What the document says of body and query is what the service's method validates with."""
    said = OPERATIONS[name]

    assert schemas_read_by(name) == {type(each) for each in (said.takes, said.query) if each}


def schemas_read_by(name: str) -> set[type[Schema]]:
    """The schemas of ``SCHEMA.read(...)`` in the method of a service that the gateway's method calls first."""
    service, method = next(
        (call.value.attr.removesuffix("_rpc"), call.attr)
        for call in attributes_of(getattr(GatewayService, name))
        if isinstance(call.value, ast.Attribute) and call.value.attr.endswith("_rpc") and call.attr != "check_token"
    )
    cls: Any = dict(zip(SERVICES, service_classes(), strict=True))[service]
    room = vars(inspect.getmodule(cls))
    read_with = {
        call.value.id
        for call in attributes_of(getattr(cls, method))
        if call.attr == "read" and isinstance(call.value, ast.Name)
    }
    return {type(room[each]) for each in read_with}


def attributes_of(method: Any) -> list[ast.Attribute]:
    """Each ``something.attribute`` in a method's source."""
    source = inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(method)))
    return [each for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Attribute)]
