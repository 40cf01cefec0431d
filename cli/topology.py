"""``./oms topology``: what must exist in the broker, as the services' code says; ``--apply`` makes it so."""

import argparse
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from cli.broker import Broker
from cli.configuration import configuration
from cli.environments import broker_password
from cli.servers.endpoints import Endpoints, Management, vhost_of
from cli.servers.private import Recipes
from cli.services import service_classes
from cli.state import State, current
from cli.trouble import Trouble
from services.chassis.topology import Exchange, Queue, Topology, User, derive

HELP = "show what must exist in the broker, and apply it"


def configure(parser: argparse.ArgumentParser) -> None:
    """--apply and --json."""
    parser.add_argument("--apply", action="store_true", help="make it so in the running, or the given, broker")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the topology, apply it, or both."""
    topology = wanted()
    if args.json:
        print(json.dumps(asdict(topology), indent=2, default=dict))
    elif not args.apply:
        print(table(topology))
    if args.apply:
        state = current()
        apply_to(Recipes(state.folder).endpoints(postgres=False, valkey=False), state, topology)
        if not args.json:
            print(f"Applied {summary(topology)}.")
    return 0


def wanted() -> Topology:
    """The topology of the six services."""
    return derive(service_classes(), configuration()["RETRY_DELAYS_MS"])


def apply_to(endpoints: Endpoints, state: State, topology: Topology) -> None:
    """Apply the topology with this cluster's passwords."""
    passwords = {user.name: broker_password(state, user.name) for user in topology.users}
    apply(topology, endpoints.management, vhost_of(endpoints.amqp_url), passwords)


def apply(topology: Topology, management: Management, vhost: str, passwords: Mapping[str, str]) -> None:
    """Make everything exist; repeating it changes nothing, and what exists otherwise is an error, not replaced."""
    broker = Broker(management)
    broker.make_vhost(vhost)
    make_exchanges(broker, vhost, topology.exchanges)
    make_queues(broker, vhost, topology.queues)
    for binding in topology.bindings:
        where = ("bindings", vhost, "e", binding.exchange, "q", binding.queue)
        broker.post(*where, body={"routing_key": binding.routing_key, "arguments": {}})
    for user in topology.users:
        make_user(broker, vhost, user, passwords[user.name])


def make_exchanges(broker: Broker, vhost: str, exchanges: Iterable[Exchange]) -> None:
    """Make the exchanges that are missing."""
    existing = {entry["name"]: entry for entry in broker.get("exchanges", vhost)}
    for exchange in exchanges:
        wish = {"type": exchange.type, "durable": exchange.durable, "arguments": dict(exchange.arguments)}
        found = existing.get(exchange.name)
        if found is None:
            broker.put("exchanges", vhost, exchange.name, body=wish)
        else:
            compare("exchange", exchange.name, {name: found[name] for name in wish}, wish)


def make_queues(broker: Broker, vhost: str, queues: Iterable[Queue]) -> None:
    """Make the queues that are missing."""
    existing = {entry["name"]: entry for entry in broker.get("queues", vhost)}
    for queue in queues:
        wish = {"durable": queue.durable, "arguments": dict(queue.arguments)}
        found = existing.get(queue.name)
        if found is None:
            broker.put("queues", vhost, queue.name, body=wish)
        else:
            compare("queue", queue.name, {"durable": found["durable"], "arguments": arguments_of(found, wish)}, wish)


def arguments_of(found: Mapping[str, Any], wish: Mapping[str, Any]) -> dict[str, Any]:
    """The queue's arguments, without the type the broker adds where none was wished."""
    arguments = dict(found["arguments"])
    if "x-queue-type" not in wish["arguments"]:
        arguments.pop("x-queue-type", None)
    return arguments


def compare(kind: str, name: str, found: Mapping[str, Any], wish: Mapping[str, Any]) -> None:
    """Raise :class:`Trouble` when what exists is not what is wished."""
    if found != wish:
        raise Trouble(
            f"The {kind} {name} exists with settings {found}, but the code wants {wish}. RabbitMQ cannot "
            "change them: let its consumers empty it, delete it there, and run ./oms topology --apply."
        )


def make_user(broker: Broker, vhost: str, user: User, password: str) -> None:
    """Make the user with exactly these permissions."""
    broker.make_user(user.name, password, user.tags)
    rights = {"configure": user.configure, "write": user.write, "read": user.read}
    broker.put("permissions", vhost, user.name, body=rights)
    broker.delete("topic-permissions", vhost, user.name)
    for permission in user.topic_permissions:
        body = {"exchange": permission.exchange, "write": permission.write, "read": permission.read}
        broker.put("topic-permissions", vhost, user.name, body=body)


def summary(topology: Topology) -> str:
    """How much there is of everything."""
    return (
        f"{len(topology.exchanges)} exchanges, {len(topology.queues)} queues, {len(topology.bindings)} bindings, "
        f"{len(topology.users)} users"
    )


def table(topology: Topology) -> str:
    """The topology for a person."""
    exchanges = [f"  {exchange.type:<8}{exchange.name}" for exchange in topology.exchanges]
    queues = []
    for queue in topology.queues:
        queues.append(f"  {queue.name}")
        queues += [f"      {name} = {value}" for name, value in queue.arguments.items()]
        queues += [f"      <- {b.exchange}  {b.routing_key}" for b in topology.bindings if b.queue == queue.name]
    users = []
    for user in topology.users:
        users.append(f"  {user.name}" + (f"  ({user.tags})" if user.tags else ""))
        rights = {"configure": user.configure, "write": user.write, "read": user.read}
        users += [f"      {name:<10}{pattern}" for name, pattern in rights.items()]
        users += [f"      {t.exchange}: write {t.write}, read {t.read}" for t in user.topic_permissions]
    return "\n".join(["Exchanges", *exchanges, "", "Queues", *queues, "", "Users", *users, "", summary(topology)])
