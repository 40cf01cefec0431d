"""What must hold in the broker: everything exists, every queue has its service, and nothing was given up.

How many messages wait and how many read them is asked over AMQP, where the answer is of this moment. RabbitMQ since
4.2.6 refuses it to a user without any right on the queue, and the operator has none on the services' own: of those the
management API tells, whose figures may be ten seconds old.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from amqp import Connection as AmqpConnection
from amqp.exceptions import AccessRefused, NotFound

from cli.broker import Broker
from cli.dead_letters import connected
from cli.doctor_places import Places
from cli.doctor_report import Check, Report
from cli.servers.endpoints import vhost_of
from cli.trouble import Trouble
from services.chassis.dead_letters import DeadLetterQueue, Wanted
from services.chassis.letter import DeadLetter
from services.chassis.topology import Topology

ANSWERS: Final = Check("broker.answers", "The broker can be looked into.")
COMPLETE: Final = Check("broker.topology_is_complete", "Every exchange, queue and binding of the code exists.")
CONSUMED: Final = Check("broker.every_queue_has_its_service", "Somebody reads every queue of events and calls.")
NO_LETTERS: Final = Check("broker.no_dead_letters", "No message was given up for good.")
MOST_LETTERS: Final = 10_000


@dataclass(frozen=True)
class Found:
    """What the broker holds."""

    waiting: dict[str, int] = field(default_factory=dict)
    """How many messages lie in each queue."""
    given_up: frozenset[tuple[str, str]] = frozenset()
    """Event and handler of every dead letter, and of every one that somebody threw away."""


def examine_broker(places: Places, topology: Topology, report: Report) -> Found:
    """Every check of the broker; nothing is found when it does not answer, and that is a finding."""
    if places.management is None:
        report.skip("the broker: nobody said where it is")
        return Found()
    report.begin(ANSWERS, COMPLETE, CONSUMED, NO_LETTERS)
    vhost = vhost_of(places.operator_url)
    broker = Broker(places.management)
    try:
        for missing in list_missing(broker, vhost, topology):
            report.add(COMPLETE, f"{missing} is missing: ./oms topology --apply makes it.", missing=missing)
        listed = {queue["name"]: queue for queue in broker.get("queues", vhost) or []}
        with connected(places.operator_url, places.amqp_ssl) as connection:
            waiting = examine_queues(connection, listed, topology, report)
            queues = [DeadLetterQueue(connection, service) for service in letter_services(topology)]
            letters = [letter for queue in queues for letter in queue.list_letters(Wanted(), MOST_LETTERS)]
            discarded = [letter for queue in queues for letter in queue.list_discarded(MOST_LETTERS)]
    except Trouble as trouble:
        report.add(ANSWERS, str(trouble))
        return Found()
    for letter in letters:
        report.add(NO_LETTERS, described(letter), **snake(letter))
    return Found(waiting, frozenset((letter.event_id, letter.handler) for letter in (*letters, *discarded)))


def examine_queues(
    connection: AmqpConnection, listed: Mapping[str, Mapping[str, Any]], topology: Topology, report: Report
) -> dict[str, int]:
    """How many messages wait in each queue; complains of those that are missing or that nobody reads."""
    waiting = {}
    for name in (queue.name for queue in topology.queues):
        if name not in listed:
            report.add(COMPLETE, f"The queue {name} is missing: ./oms topology --apply makes it.", queue=name)
            continue
        messages, readers = look_at(connection, name, listed[name])
        waiting[name] = messages
        if name.startswith(("evt-", "rpc-")) and readers == 0:
            service = name.rpartition("--")[2].partition(".")[0].removeprefix("rpc-")
            text = f"Nobody reads {name}, where {messages} messages wait: does {service} run?"
            report.add(CONSUMED, text, queue=name, messages=messages)
    return waiting


def look_at(connection: AmqpConnection, name: str, listed: Mapping[str, Any]) -> tuple[int, int | None]:
    """How many messages wait in the queue and how many read it; None when the broker keeps no such figures."""
    channel = connection.channel()
    try:
        found = channel.queue_declare(name, passive=True)
    except AccessRefused:
        return listed.get("messages_ready", 0), listed.get("consumers")
    except NotFound:  # it went meanwhile
        return 0, 0
    channel.close()
    return found.message_count, found.consumer_count


def list_missing(broker: Broker, vhost: str, topology: Topology) -> Iterator[str]:
    """The exchanges and bindings that do not exist."""
    exchanges = {exchange["name"] for exchange in broker.get("exchanges", vhost) or []}
    yield from (f"The exchange {each.name}" for each in topology.exchanges if each.name not in exchanges)
    bindings = {
        (entry["source"], entry["destination"], entry["routing_key"]) for entry in broker.get("bindings", vhost) or []
    }
    for each in topology.bindings:
        if (each.exchange, each.queue, each.routing_key) not in bindings:
            yield f"The binding of {each.queue} to {each.exchange} ({each.routing_key or 'all'})"


def letter_services(topology: Topology) -> list[str]:
    """The services that have dead letters."""
    names = (queue.name for queue in topology.queues)
    return [name.removesuffix(".dead-letters") for name in names if name.endswith(".dead-letters")]


def described(letter: DeadLetter) -> str:
    """The letter in a sentence."""
    about = f" of order {letter.order_id}" if letter.order_id else ""
    what = f"{letter.event or 'a message'}{about} was given up by {letter.handler or letter.queue}"
    how = f"at {letter.failed_at[:19]} after {letter.attempts} tries: {letter.reason.rstrip('.')}"
    return f"{what} {how}. See ./oms dead-letters show {letter.id}"


def snake(letter: DeadLetter) -> dict[str, Any]:
    """The letter as the row that shows it."""
    summary = letter.summary()
    return {"order_id": summary.pop("orderId")} | summary
