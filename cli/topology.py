"""``./oms topology``: what must exist in the broker, as the services' code says; ``--apply`` makes it so."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

from cli.broker import Broker
from cli.configuration import configuration
from cli.environments import broker_password
from cli.servers.endpoints import Endpoints, Management, vhost_of
from cli.servers.private import Recipes
from cli.services import service_classes
from cli.state import State, current
from cli.topology_changes import exchange_wished, explained, list_differences, queue_wished, remove_empty
from cli.trouble import Trouble
from services.chassis.topology import Topology, User, derive

HELP = "show what must exist in the broker, and apply it"
REPLACE_EMPTY: Final = "make queues anew that exist otherwise, where they are empty and nobody reads them"


def configure(parser: argparse.ArgumentParser) -> None:
    """--apply, --replace-empty and --json."""
    parser.add_argument("--apply", action="store_true", help="make it so in the running, or the given, broker")
    parser.add_argument("--replace-empty", action="store_true", help=REPLACE_EMPTY)
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
        endpoints = Recipes(state.folder).endpoints(postgres=False, valkey=False)
        apply_to(endpoints, state, topology, replace_empty=args.replace_empty)
        if not args.json:
            print(f"Applied {summary(topology)}.")
    return 0


def wanted() -> Topology:
    """The topology of the six services."""
    return derive(service_classes(), configuration()["RETRY_DELAYS_MS"])


def apply_to(endpoints: Endpoints, state: State, topology: Topology, *, replace_empty: bool = False) -> None:
    """Apply the topology with this cluster's passwords."""
    passwords = {user.name: broker_password(state, user.name) for user in topology.users}
    vhost = vhost_of(endpoints.amqp_url)
    apply(topology, endpoints.management, vhost, passwords, replace_empty=replace_empty)


def apply(
    topology: Topology,
    management: Management,
    vhost: str,
    passwords: Mapping[str, str],
    *,
    replace_empty: bool = False,
) -> None:
    """Make everything exist; repeating it changes nothing.

    What exists otherwise stays as it is; everything else is applied, then :class:`Trouble` names all of it. With
    ``replace_empty`` the queues among it that are empty and that nobody reads are made anew.
    """
    broker = Broker(management)
    broker.make_vhost(vhost)
    differences = list_differences(broker, vhost, topology.exchanges, topology.queues)
    reasons = remove_empty(broker, vhost, differences) if replace_empty else {}
    make_missing(broker, vhost, topology)
    for binding in topology.bindings:
        where = ("bindings", vhost, "e", binding.exchange, "q", binding.queue)
        broker.post(*where, body={"routing_key": binding.routing_key, "arguments": {}})
    for user in topology.users:
        make_user(broker, vhost, user, passwords[user.name])
    left = list_differences(broker, vhost, topology.exchanges, topology.queues) if differences else []
    if left:
        raise Trouble(explained(left, reasons, asked=replace_empty))


def make_missing(broker: Broker, vhost: str, topology: Topology) -> None:
    """Make the exchanges and queues that do not exist."""
    existing = {entry["name"] for entry in broker.get("exchanges", vhost)}
    for exchange in topology.exchanges:
        if exchange.name not in existing:
            broker.put("exchanges", vhost, exchange.name, body=exchange_wished(exchange))
    existing = {entry["name"] for entry in broker.get("queues", vhost)}
    for queue in topology.queues:
        if queue.name not in existing:
            broker.put("queues", vhost, queue.name, body=queue_wished(queue))


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
