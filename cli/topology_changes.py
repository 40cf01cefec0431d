"""What in the broker is otherwise than the code wants it: named, and replaced where that can lose nothing.

RabbitMQ changes neither a queue nor an exchange that exists. A quorum queue knows no "delete only if empty" either, so
a queue that is to be replaced is first cut off from every exchange: what is published meanwhile cannot be routed and
stays with its sender, who tries again. Then its figures are waited for, which also count what somebody holds without
having acknowledged it, and a message is asked for, for figures may be old where the broker has much to do.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.broker import Broker
from services.chassis.topology import Exchange, Queue

FIGURES_SECONDS = 12.0
"""After this the management API's figures of a queue are newer than now: told and collected every five seconds."""

UNKNOWN: Final = "the broker does not say how much it holds; try again, or delete it by hand"


@dataclass(frozen=True)
class Difference:
    """One thing that exists with other settings than the code wants."""

    kind: str
    name: str
    found: Mapping[str, Any]
    wish: Mapping[str, Any]

    def __str__(self) -> str:
        found, wish = (self.settings(each) for each in (self.found, self.wish))
        names = [name for name in {**found, **wish} if found.get(name) != wish.get(name)]
        changes = (f"{name} is {found.get(name, 'not set')}, not {wish.get(name, 'unset')}" for name in names)
        return f"{self.kind} {self.name}: {', '.join(changes)}"

    @staticmethod
    def settings(whole: Mapping[str, Any]) -> dict[str, Any]:
        """All settings beside each other, those among the arguments too."""
        return {name: value for name, value in whole.items() if name != "arguments"} | dict(whole["arguments"])


def list_differences(
    broker: Broker, vhost: str, exchanges: Iterable[Exchange], queues: Iterable[Queue]
) -> list[Difference]:
    """Everything that exists otherwise than it should; what does not exist is no difference."""
    found = {entry["name"]: entry for entry in broker.get("exchanges", vhost) or []}
    differences = [
        Difference("exchange", each.name, exchange_in_broker(found[each.name]), exchange_wished(each))
        for each in exchanges
        if each.name in found
    ]
    found = {entry["name"]: entry for entry in broker.get("queues", vhost) or []}
    differences += [
        Difference("queue", each.name, queue_in_broker(found[each.name], each), queue_wished(each))
        for each in queues
        if each.name in found
    ]
    return [each for each in differences if each.found != each.wish]


def exchange_wished(exchange: Exchange) -> dict[str, Any]:
    """The settings that RabbitMQ is asked for."""
    return {"type": exchange.type, "durable": exchange.durable, "arguments": dict(exchange.arguments)}


def exchange_in_broker(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings as they are."""
    return {name: entry[name] for name in ("type", "durable", "arguments")}


def queue_wished(queue: Queue) -> dict[str, Any]:
    """The settings that RabbitMQ is asked for."""
    return {"durable": queue.durable, "arguments": dict(queue.arguments)}


def queue_in_broker(entry: Mapping[str, Any], wanted: Queue) -> dict[str, Any]:
    """The same settings as they are, without the type that the broker adds where none was wished."""
    arguments = dict(entry["arguments"])
    if "x-queue-type" not in wanted.arguments:
        arguments.pop("x-queue-type", None)
    return {"durable": entry["durable"], "arguments": arguments}


def remove_empty(broker: Broker, vhost: str, differences: Iterable[Difference]) -> dict[str, str]:
    """Delete those queues among them that are empty and that nobody reads; why each of the others must stay.

    Whoever calls binds anew what is to be bound: a queue that turned out not to be empty has lost its bindings.
    """
    names = [each.name for each in differences if each.kind == "queue"]
    reasons = {name: why_not(broker.get("queues", vhost, name)) for name in names}
    chosen = [name for name in names if not reasons[name]]
    for name in chosen:
        cut_off(broker, vhost, name)
    time.sleep(FIGURES_SECONDS if chosen else 0)
    for name in chosen:
        reasons[name] = why_not(broker.get("queues", vhost, name), unknown=UNKNOWN) or lies_there(broker, vhost, name)
        if not reasons[name]:
            broker.delete("queues", vhost, name)
    return {name: reason for name, reason in reasons.items() if reason}


def why_not(queue: Mapping[str, Any] | None, *, unknown: str = "") -> str:
    """Why the queue cannot be deleted without losing something; empty when it can, or is gone already.

    ``unknown`` is the answer while there are no figures of it, as there are none when the broker has just started.
    """
    if queue is None:
        return ""
    messages, readers = queue.get("messages"), queue.get("consumers")
    if messages is None or readers is None:
        return unknown
    if messages or readers:
        return f"{messages} messages lie in it and {readers} processes read it"
    return ""


def lies_there(broker: Broker, vhost: str, queue: str) -> str:
    """That a message lies in the queue at this moment, where it stays; empty when there is none."""
    look = {"count": 1, "ackmode": "reject_requeue_true", "encoding": "auto"}
    return "a message lies in it" if broker.post("queues", vhost, queue, "get", body=look) else ""


def cut_off(broker: Broker, vhost: str, queue: str) -> None:
    """Take away everything that leads into the queue."""
    for binding in broker.get("queues", vhost, queue, "bindings") or []:
        if binding["source"]:
            broker.delete("bindings", vhost, "e", binding["source"], "q", queue, binding["properties_key"])


def explained(differences: Iterable[Difference], reasons: Mapping[str, str], *, asked: bool) -> str:
    """All of them for a person, and what to do."""
    lines = []
    for each in differences:
        reason = reasons.get(each.name, "") if each.kind == "queue" else ""
        lines.append(f"  {each}" + (f"\n      not replaced: {reason}" if reason else ""))
    advice = "" if asked else "./oms topology --apply --replace-empty replaces queues that are empty and unread. "
    return "\n".join(
        [
            "RabbitMQ cannot change what exists, and this exists otherwise than the code wants it:",
            *lines,
            f"Everything else was applied. {advice}See 'When queue arguments changed' in docs/operations.md.",
        ]
    )
