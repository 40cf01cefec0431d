"""Applying a topology: everything exists afterwards, a second time changes nothing, and a contradiction is told."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from kombu.connection import Connection

from cli.servers.endpoints import with_vhost
from cli.servers.vhosts import Vhost
from cli.topology import apply, wanted
from cli.trouble import Trouble
from services.chassis.topology import Binding, Exchange, Queue, TopicPermission, Topology, User

QUORUM = {"x-queue-type": "quorum"}


def a_topology(*, limit: int = 5) -> Topology:
    """A little of everything."""
    return Topology(
        exchanges=(Exchange("a.events", "topic"), Exchange("b.dead", "fanout")),
        queues=(Queue("evt", arguments={**QUORUM, "x-delivery-limit": limit}), Queue("plain")),
        bindings=(Binding("a.events", "evt", "Happened"), Binding("b.dead", "plain")),
        users=(User("test-a", "^$", r"^a\.events$", "^evt$", (TopicPermission("a.events", "^Happened$", "^$"),)),),
    )


@pytest.fixture(autouse=True)
def no_user_stays(vhost: Vhost) -> Iterator[None]:
    """Users belong to the whole broker: this test's go with it."""
    yield
    vhost.broker.delete("users", "test-a")


class TestApply:
    """The management API is told the whole wish."""

    def test_may_be_repeated(self, vhost: Vhost) -> None:
        """The second time nothing changes and nothing fails."""
        for _ in range(2):
            apply(a_topology(), vhost.management, vhost.name, {"test-a": "p"})

        bindings = {(b["source"], b["destination"], b["routing_key"]) for b in vhost.broker.get("bindings", vhost.name)}
        assert {("a.events", "evt", "Happened"), ("b.dead", "plain", "")} <= bindings
        assert vhost.broker.get("queues", vhost.name, "evt")["type"] == "quorum"
        assert vhost.broker.get("topic-permissions", vhost.name, "test-a")[0]["write"] == "^Happened$"

    def test_names_a_queue_that_exists_otherwise(self, vhost: Vhost) -> None:
        """RabbitMQ cannot change a queue, so a person must."""
        apply(a_topology(), vhost.management, vhost.name, {"test-a": "p"})

        with pytest.raises(Trouble, match="The queue evt exists with settings"):
            apply(a_topology(limit=6), vhost.management, vhost.name, {"test-a": "p"})

    def test_gives_a_user_no_more_than_its_rights(self, vhost: Vhost) -> None:
        """It may write its event and no other."""
        apply(a_topology(), vhost.management, vhost.name, {"test-a": "p"})
        host = vhost.amqp_url.rpartition("@")[2].partition("/")[0]

        with Connection(with_vhost(f"amqp://test-a:p@{host}/", vhost.name)) as connection:
            producer = connection.Producer()
            producer.publish("{}", exchange="a.events", routing_key="Happened")
            producer.publish("{}", exchange="a.events", routing_key="Forged")
            with pytest.raises(connection.connection_errors + connection.channel_errors):
                connection.drain_events(timeout=5)

    def test_takes_the_services_own(self, vhost: Vhost) -> None:
        """What the six services' code derives can be applied as it is."""
        topology = replace(wanted(), users=())  # users belong to the whole broker, so to the other tests too

        apply(topology, vhost.management, vhost.name, {})

        names = {queue["name"] for queue in vhost.broker.get("queues", vhost.name)}
        assert {queue.name for queue in topology.queues} == names
