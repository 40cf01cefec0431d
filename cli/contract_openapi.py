"""The OpenAPI document of the gateway, from its routes, the services' schemas and the refusals in the code."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from werkzeug.http import HTTP_STATUS_CODES

from cli.contract_codes import refusals
from cli.contract_operations import OPERATIONS, Operation, codes_of
from cli.contract_schemas import Json, Plugin, as_answer, name_of, parameters_of, prose
from gateway import GatewayService
from services.chassis.auth import ROLES
from services.chassis.event_streams import CONTENT_TYPE as STREAM
from services.chassis.http import HttpEntrypoint
from services.chassis.problems import CONTENT_TYPE, Refusal, document
from services.chassis.schema import Schema, camel_case
from services.chassis.topology import entrypoints_of

VERSION: Final = "0.1.0"
ABOUT: Final = """\
JSON in and out, camelCase, ids are UUIDs, times are RFC 3339 in UTC. Money is a number with at most two decimals beside
a `currency`. What a client sends beyond the schema is refused; what is answered may have more members in a later
release.

Every request may carry an `X-Request-Id` (1-64 of `A-Za-z0-9._-`; it is taken over and comes back) and a W3C
`traceparent`. Every refusal is `application/problem+json` (RFC 9457) with a stable `code`; those that any request may
get are listed with each operation. Another method than those below is 405 `method_not_allowed` with `Allow`.
"""
TAGS: Final = {
    "accounts": "Accounts, and the tokens that prove who calls.",
    "orders": "Orders, from placing to delivery.",
    "catalogue": "What there is to buy.",
    "stock": "How much of it there is.",
}
REFERENCE: Final = re.compile(r'#/components/schemas/(\w+)"')
ID_IN_PATH: Final = re.compile(r"<uuid:(\w+)>")
REQUEST_ID: Final = "6f1c1c8e-9f0b-4a57-8a0c-2f8f3f6c5d11"

HEADERS: Final[Mapping[str, Json]] = {
    "X-Request-Id": {
        "description": "The id of this request: the one that was sent, or a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "ETag": {
        "description": "Names exactly this representation; for `If-None-Match` and `If-Match`.",
        "required": True,
        "schema": {"type": "string", "pattern": '^"[0-9a-f]+"$'},
    },
    "Location": {
        "description": "Where the new resource is.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Idempotent-Replayed": {
        "description": "`true` when this is the first answer to the same `Idempotency-Key` again.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "RateLimit-Policy": {
        "description": 'How often one may ask, such as `"login";q=300;w=60`: 300 times in 60 seconds.',
        "schema": {"type": "string"},
    },
    "RateLimit": {
        "description": 'How often one still may, such as `"login";r=299;t=58`: 299 times in the next 58 seconds.',
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "After how many seconds to try again.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "WWW-Authenticate": {
        "description": "RFC 6750; `error` stands only where a token was sent.",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer "},
    },
}
PARAMETERS: Final[Mapping[str, Json]] = {
    "Idempotency-Key": {
        "description": "Asking again with the same key and body gets the first answer again. Kept for 24 hours.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
        "example": "b1946ac9-0001",
    },
    "If-Match": {
        "description": "The `ETag` of what is known: nothing is written over anything else, the answer is 412 then.",
        "schema": {"type": "string"},
        "example": "*",
    },
    "Last-Event-ID": {
        "description": "The `id` of the last event that was received: the stream goes on after it.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"},
        "example": "0",
    },
    "If-None-Match": {
        "description": "The `ETag` of what is known already: 304 while it is still so.",
        "schema": {"type": "string"},
        "example": '"9c2e0f7d1b6a4e5f8c3d2a1b0e9f8d7c"',
    },
}
REFUSED_WITH: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After",),
    429: ("Retry-After", "RateLimit-Policy", "RateLimit"),
    503: ("Retry-After",),
    504: ("Retry-After",),
}
PROBLEM: Final[Json] = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457). Some codes have further members.",
    "required": ["type", "title", "status", "detail", "instance", "code", "requestId"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "`urn:oms:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "A sentence for a person."},
        "instance": {"type": "string", "description": "The path of the request."},
        "code": {"type": "string", "pattern": "^[a-z_]+$", "description": "Stable: programs may rely on it."},
        "requestId": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "With `validation_failed`: every member that breaks a rule.",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "A JSON pointer (RFC 6901)."},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


@dataclass(frozen=True)
class Route:
    """One operation of the gateway as its code says."""

    name: str
    method: str
    path: str
    ids: tuple[str, ...]
    signed_in: bool
    about: str


def routes() -> Iterator[Route]:
    """Every route, in the order of the file."""
    order = list(vars(GatewayService))
    found = [(name, each) for name, each in entrypoints_of(GatewayService) if isinstance(each, HttpEntrypoint)]
    for name, entrypoint in sorted(found, key=lambda pair: order.index(pair[0])):
        method = getattr(GatewayService, name)
        yield Route(
            name=name,
            method=entrypoint.method,
            path=ID_IN_PATH.sub(lambda id_: f"{{{camel_case(id_[1])}}}", entrypoint.url),
            ids=tuple(camel_case(each) for each in ID_IN_PATH.findall(entrypoint.url)),
            signed_in=hasattr(method, "__wrapped__"),
            about=prose(method.__doc__),
        )


def openapi() -> Json:
    """The whole document."""
    spec = APISpec(
        title="Order management",
        version=VERSION,
        openapi_version="3.1.0",
        plugins=[plugin := Plugin()],
        info={"description": ABOUT, "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"}},
        servers=[{"url": "/", "description": "The host that serves this document."}],
        tags=[{"name": name, "description": about} for name, about in TAGS.items()],
    )
    spec.components.security_scheme(
        "bearer",
        {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "The `token` that register, login or refresh answered. It is good for some minutes.",
        },
    )
    spec.components.schema("Problem", component=PROBLEM)
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    for name, parameter in PARAMETERS.items():
        spec.components.parameter(name, "header", parameter)
    assert plugin.converter is not None  # noqa: S101 - made with the spec
    for route in routes():
        spec.path(route.path, operations={route.method.lower(): operation(spec, plugin.converter, route)})
    return finished(spec.to_dict())


def operation(spec: APISpec, converter: OpenAPIConverter, route: Route) -> Json:
    """One operation of the document."""
    contract = OPERATIONS[route.name]
    summary, _, more = route.about.partition("\n\n")
    wanted: list[Any] = [{"in": "path", "name": name, "required": True, "schema": _UUID} for name in route.ids]
    if contract.query:
        wanted += parameters_of(converter.schema2jsonschema(contract.query))
    wanted += headers_taken(contract, route)  # apispec makes references of names
    who = f"Needs the role {' or '.join(ROLES[ROLES.index(contract.role) :])}." if contract.role else ""
    found: Json = {
        "operationId": camel_case(route.name),
        "tags": [contract.tag],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(filter(None, [summary, more, who])),
        "security": [{"bearer": []}] if route.signed_in else [],
        "parameters": wanted,
        "responses": responses(spec, contract, route),
    }
    if contract.takes:
        found["requestBody"] = {
            "required": not contract.may_be_empty,
            "content": {"application/json": {"schema": contract.takes, "examples": named(contract.examples)}},
        }
    return found


def headers_taken(contract: Operation, route: Route) -> Sequence[str]:
    """The request headers that mean something to the operation."""
    known = ["If-None-Match"] if "ETag" in contract.headers and route.method == "GET" else []
    matched = ["If-Match"] if contract.conditional else []
    return [*(["Idempotency-Key"] if contract.keyed else []), *matched, *known, *contract.reads]


def named(examples: Mapping[str, Any]) -> Json:
    """Examples, each under a key of its own."""
    return {camel_case(name.lower().replace(" ", "_")): {"summary": name, "value": it} for name, it in examples.items()}


def responses(spec: APISpec, contract: Operation, route: Route) -> Json:
    """Every answer: the good one, 304 where there is one, and each status it may be refused with."""
    limits = ("RateLimit-Policy", "RateLimit") if contract.limited else ()
    about = route.about.partition("\n\n")[0]
    good: Json = {"description": about, "headers": header_refs([*contract.headers, *limits])}
    if contract.stream:
        good["content"] = {STREAM: {"schema": streamed(spec, contract.stream), "example": contract.answer}}
    if contract.gives:
        good["content"] = {"application/json": {"schema": contract.gives, "example": contract.answer}}
    if leads := links(route):
        good["links"] = leads
    found = {str(contract.status): good}
    for status, meaning in contract.also.items():
        found[str(status)] = {"description": meaning, "headers": header_refs()}
    if "If-None-Match" in headers_taken(contract, route):
        found["304"] = {"description": "It is still as the client knows it.", "headers": header_refs(["ETag"])}
    by_status: dict[int, list[str]] = {}
    for code in codes_of(contract, signed_in=route.signed_in, has_path=bool(route.ids)):
        by_status.setdefault(refusals()[code].status, []).append(code)
    return found | {str(status): refused(spec, status, codes) for status, codes in sorted(by_status.items())}


def streamed(spec: APISpec, schema: Schema) -> Json:
    """Each event of a stream; its data are the JSON of the schema."""
    spec.components.schema(name_of(schema), schema=schema)
    carried = {"$ref": f"#/components/schemas/{name_of(schema)}"}
    return {
        "type": "object",
        "description": "One event; a stream has many.",
        "required": ["id", "data"],
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": carried},
        },
    }


def links(route: Route) -> Json:
    """What can be done with the things of a collection: with the new one, or with the first of a page."""
    inside = [each for each in routes() if each.path.startswith(f"{route.path}/{{")]
    thing = {"POST": "$response.body#/id", "GET": "$response.body#/items/0/id"}[route.method] if inside else ""
    return {
        camel_case(each.name): {"operationId": camel_case(each.name), "parameters": dict.fromkeys(each.ids, thing)}
        for each in inside
    }


def refused(spec: APISpec, status: int, codes: Sequence[str]) -> str:
    """The name of the shared response with this status and these codes, which is made when it is first needed."""
    wanted: Json = {
        "description": "\n".join(f"- `{code}`: {refusals()[code].sentence}" for code in codes),
        "headers": header_refs(REFUSED_WITH.get(status, ())),
        "content": {
            CONTENT_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Problem"},
                        {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}},
                    ]
                },
                "examples": {code: {"value": problem(code)} for code in codes},
            }
        },
    }
    known = spec.components.responses
    word = HTTP_STATUS_CODES[status].replace(" ", "").replace("-", "")
    same = [name for name in known if name.partition("-")[0] == word]
    name = next((name for name in same if known[name] == wanted), f"{word}-{len(same) + 1}")
    if name not in known:
        spec.components.response(name, wanted)
    return name


def problem(code: str) -> Json:
    """The problem document of a code, made by the gateway's own function."""
    told = refusals()[code]
    refusal = Refusal(told.status, code, told.sentence)
    if code == "validation_failed":
        refusal.extra = {"errors": [{"pointer": "/items/0/quantity", "detail": "Not a valid integer."}]}
    made: Json = json.loads(document(refusal, instance="/api/order", request_id=REQUEST_ID))
    return made


def header_refs(names: Sequence[str] = ()) -> Json:
    """The answer's headers; the request's id is among every one's."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ["X-Request-Id", *names]}


def finished(made: Json) -> Json:
    """The document with what apispec does not know: what an answer promises."""
    schemas = made["components"]["schemas"]
    taken = {"Problem", *(name_of(each.takes) for each in OPERATIONS.values() if each.takes)}
    inside = {name for each in taken for name in REFERENCE.findall(json.dumps(schemas[each], default=str))}
    answers = {name: as_answer(schema) for name, schema in schemas.items() if name not in taken | inside}
    schemas.update(answers)
    return without_null_defaults(made)  # type: ignore[no-any-return]


def without_null_defaults(made: Any) -> Any:
    """The same; a default of null says no more than that a member may be left out."""
    if isinstance(made, Mapping):
        return {
            name: without_null_defaults(each) for name, each in made.items() if not (name == "default" and each is None)
        }
    return [without_null_defaults(each) for each in made] if isinstance(made, list) else made


_UUID: Final = {"type": "string", "format": "uuid"}
