"""A broker with the topology of the code, dead letters to put into it, and a person with the operator's keys."""

from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

from amqp import Connection as AmqpConnection
from amqp.basic_message import Message
from kombu.connection import Connection

from cli.__main__ import main
from cli.environments import broker_url
from cli.servers.vhosts import Vhost
from cli.topology import apply, wanted
from services.chassis import wire
from services.chassis.dead_letters import DeadLetterQueue, Wanted
from services.chassis.letter import DeadLetter
from services.chassis.topology import Topology
from tests.support.cluster import BROKER_PASSWORD

QUEUE = "evt-orders-OrderCancelledEvent--payments.on_order_cancelled"
LETTERS = "payments.dead-letters"
HANDLER = "payments.on_order_cancelled"


class Bench:
    """A broker with the topology of the code, and a person with the operator's keys."""

    def __init__(self, vhost: Vhost, folder: Path, topology: Topology | None = None) -> None:
        self.vhost = vhost
        self.folder = folder
        self.topology = topology or wanted()
        passwords = {user.name: BROKER_PASSWORD for user in self.topology.users}
        apply(self.topology, vhost.management, vhost.name, passwords)
        self.operator_url = broker_url(vhost.amqp_url, "operator", BROKER_PASSWORD)
        (folder / "operator").write_text(f"AMQP_URI={self.operator_url}\n")

    def connect(self, url: str = "") -> AmqpConnection:
        """A connection as the administrator, unless a URL is given."""
        return Connection(url or self.vhost.amqp_url).transport.establish_connection()

    def bury(self, number: int = 0, *, queue: str = QUEUE, body: Any = None, headers: Any = None) -> str:
        """Give a message up; its order's id."""
        order_id = str(uuid4())
        marks = {
            "x-oms-attempt": 5,
            "x-oms-failures": 5,
            "x-oms-kind": "lasting",
            "x-oms-reason": f"NotFound: reason {number}",
            "x-oms-service": "payments",
            "x-oms-handler": HANDLER,
            "x-oms-queue": queue,
            "x-oms-failed-at": f"2026-01-01T00:00:00.{number:06d}+00:00",
            **(headers or {}),
        }
        payload = body if isinstance(body, bytes) else wire.encode(body or {"order_id": order_id, "number": number})
        with closing(self.connect()) as connection:
            channel = connection.channel()
            channel.confirm_select()
            message = Message(
                payload,
                application_headers=marks,
                message_id=str(uuid4()),
                content_type="application/json",
                delivery_mode=2,
            )
            channel.basic_publish_confirm(message, LETTERS, queue)
        return order_id

    def letters(self) -> list[DeadLetter]:
        """All of payments'."""
        with closing(self.connect(self.operator_url)) as connection:
            return DeadLetterQueue(connection, "payments").list_letters(Wanted())

    def take(self, queue: str) -> Any:
        """The next message of a queue, taken out."""
        with closing(self.connect()) as connection:
            return connection.channel().basic_get(queue, no_ack=True)

    def oms(self, *arguments: str) -> int:
        """What ``./oms dead-letters`` exits with."""
        action, *rest = arguments
        return main(["dead-letters", action, "--env", str(self.folder), *rest])
