"""The OpenAPI document as a judge of whether an answer keeps what the document promises."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import requests
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from cli.contract import FOLDER

BASE: Final = "urn:oms:openapi"
Json = dict[str, Any]


def read(name: str) -> Json:
    """A document of the contract; numbers with a fraction as Decimal, since a float is no sum of money."""
    document: Json = json.loads((FOLDER / name).read_text(), parse_float=Decimal)
    return document


@dataclass(frozen=True)
class Operation:
    """One operation of the document."""

    name: str
    method: str
    path: str
    said: Mapping[str, Any]

    @property
    def examples(self) -> Mapping[str, Any]:
        """The bodies that are accepted; one empty one where none is taken."""
        if "requestBody" not in self.said:
            return {"nothing": None}
        return {name: each["value"] for name, each in self.json_body["examples"].items()}

    @property
    def json_body(self) -> Json:
        """What is said of the body."""
        body: Json = self.said["requestBody"]["content"]["application/json"]
        return body

    @property
    def good(self) -> int:
        """The status of a good answer."""
        return min(int(status) for status in self.said["responses"])

    @property
    def is_closed(self) -> bool:
        """Whether it needs a token."""
        return bool(self.said["security"])


class Contract:
    """The document, and whether answers keep it."""

    def __init__(self, document: Json) -> None:
        self.document = document
        closed = deepcopy(document)
        for schema in closed["components"]["schemas"].values():
            if schema["type"] == "object" and "code" not in schema["properties"]:
                schema["additionalProperties"] = False  # what is answered today is said today
        resource = DRAFT202012.create_resource(closed)
        self.registry = Registry().with_resource(BASE, resource)

    def operations(self) -> Iterator[Operation]:
        """Every operation."""
        for path, methods in self.document["paths"].items():
            for method, said in methods.items():
                yield Operation(said["operationId"], method.upper(), path, said)

    def complaints(self, schema: Json, value: object) -> list[str]:
        """Where the value breaks the schema, which stands in the document."""
        validator = Draft202012Validator(absolute(schema), registry=self.registry, format_checker=FormatChecker())
        return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]

    def resolved(self, said: Mapping[str, Any]) -> Json:
        """What a reference means; what is none, itself."""
        found: Any = said
        while "$ref" in found:
            reference, found = found["$ref"], self.document
            for step in reference.removeprefix("#/").split("/"):
                found = found[step]
        return dict(found)

    def broken_by(self, operation: Operation, answer: requests.Response) -> list[str]:
        """What the answer does otherwise than the document promises."""
        said = operation.said["responses"].get(str(answer.status_code))
        if said is None:
            return [f"{operation.name}: {answer.status_code} is not documented"]
        said = self.resolved(said)
        headers = {name: self.resolved(each) for name, each in said.get("headers", {}).items()}
        broken = []
        for name, each in headers.items():
            if name in answer.headers:
                broken += self.complaints(each["schema"], answer.headers[name])
            elif each.get("required"):
                broken.append(f"{name} is missing")
        unsaid = {"ETag", "Location", "Idempotent-Replayed", "Retry-After", "WWW-Authenticate"} - headers.keys()
        broken += [f"{name} is not documented" for name in unsaid if name in answer.headers]
        return [f"{operation.name} {answer.status_code}: {each}" for each in [*broken, *self._body(said, answer)]]

    def _body(self, said: Json, answer: requests.Response) -> list[str]:
        if "content" not in said:
            return ["a body where none is promised"] if answer.content else []
        ((media_type, content),) = said["content"].items()
        if str(answer.headers.get("Content-Type")).removesuffix("; charset=utf-8") != media_type:
            return [f"{answer.headers.get('Content-Type')} instead of {media_type}"]
        if "json" in media_type:
            return self.complaints(content["schema"], json.loads(answer.text, parse_float=Decimal))
        events = [*events_of(answer.text)]
        carried = content["schema"]["properties"]["data"]["contentSchema"]
        broken = [each for event in events for each in self.complaints(content["schema"], event)]
        broken += [each for event in events for each in self.complaints(carried, json.loads(event["data"]))]
        return broken if events else ["no event"]


def events_of(stream: str) -> Iterator[dict[str, str]]:
    """The server-sent events of a stream that has ended; what is no event is left out."""
    for block in stream.split("\n\n"):
        event = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in event:
            yield event


def absolute(schema: Any) -> Any:
    """The same with references that mean the document wherever they stand."""
    if isinstance(schema, dict):
        return {
            name: BASE + each if name == "$ref" and isinstance(each, str) else absolute(each)
            for name, each in schema.items()
        }
    return [absolute(each) for each in schema] if isinstance(schema, list) else schema
