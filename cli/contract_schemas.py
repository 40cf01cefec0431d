"""How the services' marshmallow schemas read as JSON Schema, and the shapes that are put together from several.

apispec knows marshmallow's own fields. What ours refuse beyond those - control characters, more than two decimals - is
said here, from the field's own settings.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import marshmallow
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import fields, validate

from services.chassis.journey import STEP
from services.chassis.schema import MOST_CENTS, Instant, Money, Schema, Text
from services.inventory.schemas import PRODUCT_VIEW
from services.orders.schemas import ORDER_SUMMARY
from services.orders.transitions import OrderStatus
from services.users.schemas import Password

CONTROL: Final = r"\u0000-\u001f\u007f-\u009f"
BREAKS: Final = r"\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f"
"""The same without tab, line feed and carriage return."""

Json = dict[str, Any]


class OrderPage(Schema):
    """A page of orders; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(ORDER_SUMMARY))
    next_cursor = fields.String(allow_none=True)


class ProductPage(Schema):
    """A page of products; ``nextCursor`` is null on the last."""

    items = fields.List(fields.Nested(PRODUCT_VIEW))
    next_cursor = fields.String(allow_none=True)


class Journey(Schema):
    """What happened to an order in every service, and what it waits for."""

    order_id = fields.UUID()
    status = fields.String(validate=validate.OneOf(list(OrderStatus)))
    deadline = Instant(allow_none=True)
    waiting_for = fields.String(allow_none=True)
    steps = fields.List(fields.Nested(STEP))
    missing = fields.List(fields.String(), metadata={"description": "The services that did not answer."})


class Converter(OpenAPIConverter):
    """apispec's own, which also says what a schema's docstring says."""

    def schema2jsonschema(self, schema: marshmallow.Schema) -> Json:
        """The schema with its description."""
        found: Json = super().schema2jsonschema(schema)
        said = type(schema).__dict__.get("__doc__")
        return {"description": prose(said), **found} if said else found


class Plugin(MarshmallowPlugin):
    """marshmallow as it is used here."""

    Converter = Converter

    def __init__(self) -> None:
        super().__init__(schema_name_resolver=name_of)

    def init_spec(self, spec: Any) -> None:
        """Teach the converter our fields."""
        super().init_spec(spec)
        assert self.converter is not None  # noqa: S101 - init_spec has just made it
        self.converter.map_to_openapi_type(Money, "number", None)
        self.converter.map_to_openapi_type(Instant, "string", "date-time")
        for attributes in (money, text):
            self.converter.add_attribute_function(attributes)


def money(_self: Any, field: fields.Field[Any], **_: Any) -> Json:
    """An amount has at most two decimals."""
    if not isinstance(field, Money):
        return {}
    return {"minimum": 0, "maximum": MOST_CENTS // 100, "multipleOf": Decimal("0.01")}


def text(_self: Any, field: fields.Field[Any], **_: Any) -> Json:
    """A text has no control characters, and one that must not be empty has more than white space."""
    if isinstance(field, Password):
        return {"pattern": f"^[^{CONTROL}]*$"}
    if not isinstance(field, Text) or "pattern" in field.metadata:
        return {}
    refused = BREAKS if field.allowed else CONTROL
    shortest = next((each.min for each in field.validators if isinstance(each, validate.Length)), 0)
    seen = rf"[^\s{refused}][^{refused}]*" if shortest else ""
    return {"pattern": f"^[^{refused}]*{seen}$"}


def name_of(schema: Any) -> str:
    """The schema's name for clients: ``_PlaceOrderSchema`` is ``PlaceOrder``, ``ProductView`` is ``Product``."""
    kind = marshmallow.schema.SchemaMeta
    cls = schema if isinstance(schema, kind) else type(schema)
    return re.sub(r"^_|(Schema|View)$", "", str(cls.__name__))


def as_answer(schema: Json) -> Json:
    """The schema of something that is answered: every member is there, and a later release may add some."""
    found = {name: value for name, value in schema.items() if name != "additionalProperties"}
    return {**found, "required": list(found["properties"])}


def prose(docstring: str | None) -> str:
    """A docstring as Markdown on one line for each paragraph."""
    paragraphs = re.split(r"\n\s*\n", (docstring or "").strip())
    return "\n\n".join(" ".join(each.split()) for each in paragraphs).replace("``", "`")


def parameters_of(schema: Json) -> list[Json]:
    """A query's members as parameters: they arrive as text, so none is null."""
    return [
        {"in": "query", "name": name, "schema": _present(member), **_required(schema, name)}
        for name, member in schema["properties"].items()
    ]


def _present(member: Mapping[str, Any]) -> Json:
    kept = {name: value for name, value in member.items() if name != "default" or value not in (None, "")}
    if isinstance(kept.get("type"), list):
        (kept["type"],) = (each for each in kept["type"] if each != "null")
    if "enum" in kept:
        kept |= {"type": "string", "enum": [each for each in kept["enum"] if each is not None]}
    return kept


def _required(schema: Json, name: str) -> Json:
    return {"required": True} if name in schema.get("required", ()) else {}
