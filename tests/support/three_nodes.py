"""A RabbitMQ cluster of three nodes on the loopback address, behind one address that balances new connections.

Each node is a private RabbitMQ with ports and folders of its own; the three share a cookie and a port mapper that no
other cluster knows. They are set as ``deploy/kubernetes`` sets them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from socket import socket
from typing import Any, Final

from cli.broker import Broker
from cli.files import make_folder, secret
from cli.servers.endpoints import Endpoints, Management, amqp_url
from cli.servers.place import servers_folder
from cli.servers.ports import LOOPBACK, Ports
from cli.servers.private import Servers
from cli.servers.programs import run, wait_until
from cli.servers.rabbitmq import ADMIN, VHOST, RabbitMQ
from cli.trouble import Trouble
from tests.support.lines import Line

SIZE: Final = 3
TOGETHER_SECONDS: Final = 120
AWAY_SECONDS: Final = 2.0
"""How long a balancer sends nobody to a node that has refused somebody."""

AS_IN_PRODUCTION: Final = ("cluster_partition_handling = pause_minority", "queue_leader_locator = balanced")

_HAND_OVER: Final = """
    [begin {{ok, Queue}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, Name)),
     rabbit_quorum_queue:transfer_leadership(Queue, '{node}') end || Name <- [{names}]]."""


class Balancer(Line):
    """One address before several servers, which get new connections in turn.

    Like Kubernetes' it learns that a server is gone from a connection that is refused, and that client must come again.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports
        self._turns = count()
        self._away_until = dict.fromkeys(ports, 0.0)
        super().__init__(ports[0])

    async def connect(self, end: socket) -> None:
        """Connect to the server whose turn it is."""
        present = [port for port in self.ports if self._away_until[port] < time.monotonic()] or self.ports
        port = present[next(self._turns) % len(present)]
        try:
            await self._loop.sock_connect(end, (LOOPBACK, port))
        except OSError:
            self._away_until[port] = time.monotonic() + AWAY_SECONDS
            raise


class Node(RabbitMQ):
    """One of the three; when it starts for the first time it joins the node named ``first``."""

    def __init__(self, folder: Path, secrets: Path, ports: Ports, number: int) -> None:
        self.name = f"node-{number}"
        self.MANAGEMENT = f"management-{number}"
        self.DISTRIBUTION = f"distribution-{number}"
        super().__init__(folder, secrets, ports, durable=True)
        self.first = self.node_name

    @property
    def password(self) -> str:
        """The administrator's password, on all nodes the same."""
        return secret(self.secrets, RabbitMQ.name)

    @property
    def broker(self) -> Broker:
        """The management API of this node."""
        return Broker(self.management)

    def configuration(self) -> str:
        """As that of a single node, and with whom it makes one broker."""
        joins = (
            "cluster_formation.peer_discovery_backend = classic_config",
            f"cluster_formation.classic_config.nodes.1 = {self.first}",
        )
        return "\n".join([super().configuration().rstrip(), *joins, *AS_IN_PRODUCTION, ""])


class ThreeNodes(Servers):
    """Starts, kills and restarts ``node-1`` to ``node-3``; to clients they are one broker at one address.

    A Valkey belongs to them, so that nothing but PostgreSQL is shared with other clusters.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, durable=False)
        place, secrets, ports = servers_folder(folder), make_folder(folder / "secrets"), Ports(folder / "ports.json")
        self.nodes = {node.name: node for node in (Node(place, secrets, ports, 1 + each) for each in range(SIZE))}
        self.balancers: list[Balancer] = []

    def form(self) -> Endpoints:
        """Start all of them and wait until they are one broker; where it is."""
        first, *others = self.nodes.values()
        for node in others:
            node.first = first.node_name
        prepared = {name: node.prepare() for name, node in self.nodes.items()}  # before one takes what all shall use
        self.children[RabbitMQ.MAPPER] = [self.spawn(prepared[first.name][0])]
        for group in ([first], others):
            for node in group:
                self.servers[node.name] = node
                self.children[node.name] = [self.spawn(prepared[node.name][-1])]
            for node in group:
                self.wait(node.name)
        self.balancers = [Balancer(self.ports_of(kind)) for kind in ("name", "MANAGEMENT")]
        amqp, management = (f"{LOOPBACK}:{each.port}" for each in self.balancers)
        found = replace(
            self.start(postgres=False, rabbitmq=False),
            amqp_url=amqp_url(amqp, ADMIN, first.password, VHOST),
            management=Management(f"http://{management}", ADMIN, first.password),
        )
        Broker(found.management).make_vhost(VHOST)
        return found

    def ports_of(self, kind: str) -> list[int]:
        """The ports of one kind, of all nodes."""
        return [node.ports.of(getattr(node, kind)) for node in self.nodes.values()]

    def quorum_queues(self, vhost: str) -> dict[str, dict[str, Any]]:
        """What the first node that lives says of every quorum queue, by name."""
        node = next(node for name, node in self.nodes.items() if self.children[name][0].alive)
        return {queue["name"]: queue for queue in node.broker.get("queues", vhost) if queue["type"] == "quorum"}

    def leaders(self, vhost: str) -> dict[str, str]:
        """Which node leads each quorum queue."""
        names = {node.node_name: name for name, node in self.nodes.items()}
        return {name: names[queue["leader"]] for name, queue in self.quorum_queues(vhost).items()}

    def hand_over(self, vhost: str, queues: Sequence[str], name: str) -> None:
        """Let that node lead these queues: leaders do not come back by themselves to a node that was away."""
        broker = self.children[name][-1].program
        control = str(Path(broker.arguments[0]).with_name("rabbitmqctl"))
        names = ", ".join(f'<<"{queue}">>' for queue in queues)
        wish = _HAND_OVER.format(vhost=vhost, node=self.nodes[name].node_name, names=names)
        run([control, "eval", wish], environment=broker.environment)
        assert wait_until(
            lambda: {self.leaders(vhost)[queue] for queue in queues} == {name}, seconds=TOGETHER_SECONDS
        ), f"not led by {name}: {self.leaders(vhost)}"

    def are_together(self, vhost: str) -> bool:
        """Whether every quorum queue has a member at work on each node."""
        try:
            queues = self.quorum_queues(vhost)
        except Trouble:  # that node is on its way
            return False
        return bool(queues) and all(len(queue.get("online", ())) == SIZE for queue in queues.values())

    def wait_together(self, vhost: str) -> None:
        """Wait until every quorum queue has a member at work on each node; fails with those there are."""
        assert wait_until(lambda: self.are_together(vhost), seconds=TOGETHER_SECONDS), self.quorum_queues(vhost)

    def remove(self) -> None:
        """End all of them at once and remove their files."""
        for balancer in self.balancers:
            balancer.close()
        super().remove()
