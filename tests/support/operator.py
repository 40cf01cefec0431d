"""What somebody with the broker's keys can do to a cluster: publish by hand, look into queues, cut a subscription."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.messaging import Producer

from cli.environments import broker_url
from cli.readiness import direct_session
from cli.services import SERVICES
from services.chassis import wire
from services.chassis.topology import Subscription
from tests.support.cluster import BROKER_PASSWORD, Cluster

LAST_PLACES = (".dead-letters", ".discarded")


@dataclass(frozen=True)
class DeadLetter:
    """A message that was given up, and what its headers say about that."""

    service: str
    body: str
    headers: Mapping[str, Any]
    message_id: str


class Operator:
    """The operator of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.vhost = cluster.place.vhost.name
        self.broker = cluster.broker
        self.amqp_url = broker_url(cluster.place.vhost.amqp_url, "operator", BROKER_PASSWORD)

    def dispatch(self, source: str, event_type: str, payload: object, **properties: Any) -> None:
        """Publish as ``n.dispatch_event(source, event_type, payload)`` does; bytes go out as they are."""
        body = payload if isinstance(payload, bytes) else wire.encode(payload)
        exchange = Exchange(f"{source}.events", "topic", passive=True)
        described = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        with Connection(self.amqp_url) as connection:
            Producer(connection, exchange=exchange, auto_declare=False).publish(body, event_type, **described)

    def slip(self, queue: str, service: str, payload: object, message_id: str) -> None:
        """Publish to this one queue of the service, as a replayed dead letter comes; nobody else gets it."""
        exchange = Exchange(f"{service}.redeliver", "direct", passive=True)
        described = {"content_type": "application/json", "content_encoding": "utf-8", "message_id": message_id}
        with Connection(self.amqp_url) as connection:
            Producer(connection, exchange=exchange, auto_declare=False).publish(
                wire.encode(payload), queue, **described
            )

    def repeat(self, service: str, event: Mapping[str, Any]) -> None:
        """Publish a row of the service's outbox once more."""
        self.dispatch(service, event["event_type"], event["payload"].encode(), message_id=str(event["event_id"]))

    def dead_letters(self) -> list[DeadLetter]:
        """All that was given up so far; it stays where it is."""
        return [letter for service in SERVICES for letter in self._dead_letters_of(service)]

    def _dead_letters_of(self, service: str) -> list[DeadLetter]:
        queue = f"{service}.dead-letters"
        if self.broker.get("queues", self.vhost, queue) is None:
            return []
        wish = {"count": 1000, "ackmode": "reject_requeue_true", "encoding": "auto"}
        found = self.broker.post("queues", self.vhost, queue, "get", body=wish)
        return [
            DeadLetter(
                service,
                each["payload"],
                each["properties"].get("headers", {}),
                each["properties"].get("message_id", ""),
            )
            for each in found
        ]

    def purge_dead_letters(self) -> None:
        """Discard all that was given up."""
        for service in SERVICES:
            self.broker.delete("queues", self.vhost, f"{service}.dead-letters", "contents")

    def waiting(self) -> dict[str, int]:
        """How many messages wait in each queue but the dead and the discarded; those at a consumer are not counted.

        Asked over AMQP: what the management API says of a quorum queue may be five seconds old.
        """
        with Connection(self.cluster.place.vhost.amqp_url) as connection:
            channel = connection.channel()
            counts = {queue: channel.queue_declare(queue, passive=True).message_count for queue in self.cluster.queues}
        return {queue: count for queue, count in counts.items() if count and not queue.endswith(LAST_PLACES)}

    @contextmanager
    def cut(self, subscription: Subscription) -> Iterator[None]:
        """While the block runs the exchange does not know the subscriber: its events cannot be routed to it."""
        where = ("bindings", self.vhost, "e", f"{subscription.source}.events", "q", subscription.queue)
        self.broker.delete(*where, subscription.event)
        try:
            yield
        finally:
            self.broker.post(*where, body={"routing_key": subscription.event, "arguments": {}})

    def handled(self) -> Counter[str]:
        """How many deliveries each handler has answered in all instances since these began, whatever came of them."""
        found: Counter[str] = Counter()
        for instance in self.cluster.children:
            found.update(counts(self.cluster, instance, "oms_handler_seconds_count", "handler"))
        return found


def counts(cluster: Cluster, instance: str, metric: str, label: str) -> dict[str, int]:
    """The metric's values by that label, summed over all others."""
    text = direct_session().get(f"{cluster.url_of(instance)}/metrics", timeout=5).text
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition("{")
        if name == metric:
            labels, _, value = rest.rpartition("} ")
            key = labels.split(f'{label}="', 1)[1].split('"', 1)[0]
            found[key] = found.get(key, 0) + int(float(value))
    return found
