"""The AsyncAPI document of the saga: what crosses RabbitMQ, who publishes it, who reacts in which queue.

Events and their fields are read from ``events.py`` by the library that decodes them, exchanges and queues from the
topology, handlers from the services' classes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from typing import Any, Final, get_type_hints
from uuid import UUID

import msgspec

import events
from cli.contract_openapi import VERSION
from cli.contract_schemas import Json, prose
from cli.services import service_classes
from services.chassis import wire
from services.chassis.topology import Exchange, Subscription, derive, read_wiring

ABOUT: Final = """\
Every event is a fact in the past tense. It leaves its publisher through an outbox, on the topic exchange
`<publisher>.events` with its name as routing key, and reaches each subscriber at least once, in any order, any number
of times: who handles one must take the second delivery for nothing new. Fields are only ever added, with a default.

This one document tells of all services; `x-service` names the one that sends or receives.
"""
BINDING_VERSION: Final = "0.3.0"
ORDER_LINE: Final = events.OrderLine(
    product_id=UUID("5e1f8d8e-3a53-4a9e-9d0c-2f3b8b8f6a10"),
    product_name="Desk lamp",
    quantity=2,
    unit_price_cents=3490,
)
SAMPLE: Final[Mapping[str, Any]] = {
    "event_id": UUID("0d6f9d0e-54c0-4f5f-9f4e-6f3f4a2f7b01"),
    "occurred_at": datetime(2026, 1, 31, 9, 30, tzinfo=UTC),
    "correlation_id": "6f1c1c8e-9f0b-4a57-8a0c-2f8f3f6c5d11",
    "order_id": UUID("7f5b3a52-7d52-4a0b-8a36-5d0f4f0c2a77"),
    "user_id": UUID("0b9e6f0e-6f0c-4d3a-9a53-0d6a3d1c9b11"),
    "items": [ORDER_LINE],
    "total_cents": 6980,
    "amount_cents": 6980,
    "currency": "EUR",
    "payment_method": "pm_ok",
    "payment_id": UUID("b1c5a2de-1a0f-4c36-8a3e-0d7e5f1f9c21"),
    "transaction_id": "tx_4f2a9c",
    "refund_id": "rf_77b1e0",
    "shortages": [events.Shortage(product_id=ORDER_LINE.product_id, requested=2, available=1)],
    "cancelled_from": "Pending",
    "product_id": ORDER_LINE.product_id,
    "name": "Desk lamp",
    "unit_price_cents": 3490,
    "active": True,
    "product_version": 2,
}
"""What the fields of the examples say."""
REASON: Final[Mapping[type[events.Event], str]] = {
    events.InventoryReservationFailedEvent: "out_of_stock",
    events.PaymentFailedEvent: "insufficient_funds",
    events.OrderCancelledEvent: events.CancelReason.CUSTOMER,
}
OUTCOME: Final[Mapping[type[events.Event], str]] = {
    events.InventoryReleasedEvent: events.ReleaseOutcome.RELEASED,
    events.PaymentVoidedEvent: events.VoidOutcome.NEVER_CHARGED,
}


def asyncapi() -> Json:
    """The whole document."""
    classes = {service.name: service for service in service_classes()}  # type: ignore[attr-defined] # Nameko insists
    exchanges = {each.name: each for each in derive(classes.values(), ()).exchanges}
    received = [each for service in classes.values() for each in read_wiring(service).subscriptions]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Order management: the saga's events",
            "version": VERSION,
            "description": ABOUT,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {kind.__name__: channel(kind, exchanges[f"{kind.publisher}.events"]) for kind in events.ALL},
        "operations": dict([*map(sends, events.ALL), *(receives(each, classes[each.service]) for each in received)]),
        "components": {
            "messages": {kind.__name__: message(kind) for kind in events.ALL},
            "schemas": schemas(),
        },
    }


def channel(kind: type[events.Event], exchange: Exchange) -> Json:
    """Where an event travels."""
    name = kind.__name__
    return {
        "address": name,
        "summary": prose(kind.__doc__).partition("\n\n")[0],
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": exchange.name,
                    "type": exchange.type,
                    "durable": exchange.durable,
                    "autoDelete": False,
                },
                "bindingVersion": BINDING_VERSION,
            }
        },
    }


def sends(kind: type[events.Event]) -> tuple[str, Json]:
    """That its publisher publishes the event."""
    operation = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{kind.__name__}"},
        "summary": f"{kind.publisher} publishes it, through its outbox.",
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": False, "bindingVersion": BINDING_VERSION}},
        "x-service": kind.publisher,
    }
    return f"{kind.publisher}.publish.{kind.__name__}", operation


def receives(subscription: Subscription, service: type) -> tuple[str, Json]:
    """That a handler reacts to the event."""
    operation = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{subscription.event}"},
        "summary": prose(getattr(service, subscription.method).__doc__),
        "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING_VERSION}},
        "x-service": subscription.service,
        "x-queue": subscription.queue,
    }
    return f"{subscription.service}.{subscription.method}", operation


def message(kind: type[events.Event]) -> Json:
    """The event as a message."""
    summary, _, more = prose(kind.__doc__).partition("\n\n")
    return {
        "name": kind.__name__,
        "title": kind.__name__,
        "summary": summary,
        **({"description": more} if more else {}),
        "correlationId": {
            "description": "The request that began it all.",
            "location": "$message.payload#/correlation_id",
        },
        "headers": {
            "type": "object",
            "properties": {"traceparent": {"type": "string", "description": "W3C trace context, where there is one."}},
        },
        "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        "examples": [{"name": "example", "payload": json.loads(wire.encode_checked(sample(kind)))}],
    }


def sample(kind: type[events.Event]) -> events.Event:
    """An event that its own checks accept."""
    said = {**SAMPLE, "reason": REASON.get(kind, ""), "outcome": OUTCOME.get(kind, "")}
    given = [each.name for each in fields(kind) if each.name in said and (is_required(each) or each.name in SAMPLE)]
    return kind(**{name: said[name] for name in given})


def is_required(field: Any) -> bool:
    """Whether it has no default."""
    return field.default is MISSING and field.default_factory is MISSING


def schemas() -> Json:
    """The events' payloads and what they are made of, as those who decode them read them."""
    _, found = msgspec.json.schema_components(events.ALL, ref_template="#/components/schemas/{name}")
    made: Json = {name: {**schema, "description": prose(schema["description"])} for name, schema in found.items()}
    for kind in events.ALL:
        made[kind.__name__]["properties"] |= dict(told_better(kind))
        made[kind.__name__]["required"] = ["event_id", "event_type", "version", *made[kind.__name__]["required"]]
    return made


def told_better(kind: type[events.Event]) -> Iterator[tuple[str, Json]]:
    """What every event's fields promise beyond their types."""
    yield "event_type", {"type": "string", "const": kind.__name__}
    yield "version", {"type": "integer", "const": 1}
    for name, hint in get_type_hints(kind).items():
        if hint is datetime:
            yield name, {"type": "string", "format": "date-time"}
