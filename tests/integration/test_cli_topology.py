"""Applying a topology: everything exists afterwards, a second time changes nothing, and a contradiction is told."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from kombu.connection import Connection

from cli import topology_changes
from cli.servers.endpoints import with_vhost
from cli.servers.vhosts import Vhost
from cli.topology import apply, wanted
from cli.trouble import Trouble
from services.chassis.topology import Binding, Exchange, Queue, TopicPermission, Topology, User
from tests.support.until import eventually

QUORUM = {"x-queue-type": "quorum"}


def a_topology(*, limit: int = 5) -> Topology:
    """A little of everything."""
    return Topology(
        exchanges=(Exchange("a.events", "topic"), Exchange("b.dead", "fanout")),
        queues=(Queue("evt", arguments={**QUORUM, "x-delivery-limit": limit}), Queue("plain")),
        bindings=(Binding("a.events", "evt", "Happened"), Binding("b.dead", "plain")),
        users=(User("test-a", "^$", r"^a\.events$", "^evt$", (TopicPermission("a.events", "^Happened$", "^$"),)),),
    )


def figures(vhost: Vhost) -> dict[str, tuple[int | None, int | None]]:
    """How many messages each queue holds and how many read it, as the management API knows it by now."""
    queues = vhost.broker.get("queues", vhost.name)
    return {queue["name"]: (queue.get("messages"), queue.get("consumers")) for queue in queues}


def waiting(url: str, queue: str) -> int:
    """How many messages lie ready in the queue at this moment."""
    with Connection(url) as connection:
        return int(connection.channel().queue_declare(queue, passive=True).message_count)


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

    def test_names_all_that_exists_otherwise(self, vhost: Vhost) -> None:
        """RabbitMQ cannot change it, so a person must; everything else is applied all the same."""
        apply(a_topology(), vhost.management, vhost.name, {"test-a": "p"})
        changed = a_topology(limit=6)
        more = replace(
            changed,
            exchanges=(Exchange("a.events", "topic"), Exchange("b.dead", "direct"), Exchange("new", "fanout")),
            queues=(changed.queues[0], Queue("plain", arguments={"x-message-ttl": 5}), Queue("new")),
            bindings=(*changed.bindings, Binding("new", "new")),
        )

        with pytest.raises(Trouble) as trouble:
            apply(more, vhost.management, vhost.name, {"test-a": "p"})

        assert str(trouble.value).splitlines()[1:-1] == [
            "  exchange b.dead: type is fanout, not direct",
            "  queue evt: x-delivery-limit is 5, not 6",
            "  queue plain: x-message-ttl is not set, not 5",
        ]
        assert vhost.broker.get("bindings", vhost.name, "e", "new", "q", "new") != []

    def test_makes_empty_queues_anew_when_asked_to(self, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
        """With their bindings; one that holds a message, or that somebody reads, stays as it was, and works on."""
        monkeypatch.setattr(topology_changes, "FIGURES_SECONDS", 0)
        queues = tuple(Queue(name, arguments={**QUORUM, "x-delivery-limit": 5}) for name in ("empty", "full", "read"))
        old = replace(
            a_topology(), queues=queues, bindings=tuple(Binding("a.events", q.name, "Happened") for q in queues)
        )
        changed = {**QUORUM, "x-delivery-limit": 6}
        new = replace(old, queues=tuple(replace(queue, arguments=changed) for queue in queues))
        apply(old, vhost.management, vhost.name, {"test-a": "p"})

        with Connection(vhost.amqp_url) as connection:
            connection.Producer().publish("{}", exchange="", routing_key="full")
            connection.default_channel.basic_consume("read", callback=print)
            eventually(lambda: figures(vhost) == {"empty": (0, 0), "full": (1, 0), "read": (0, 1)}, seconds=60)
            with pytest.raises(Trouble) as trouble:
                apply(new, vhost.management, vhost.name, {"test-a": "p"}, replace_empty=True)
            connection.Producer().publish("{}", exchange="a.events", routing_key="Happened")
            eventually(lambda: [waiting(vhost.amqp_url, queue) for queue in ("full", "empty")] == [2, 1])

        found = {
            queue["name"]: queue["arguments"]["x-delivery-limit"] for queue in vhost.broker.get("queues", vhost.name)
        }
        assert found == {"empty": 6, "full": 5, "read": 5}
        assert str(trouble.value).count("not replaced: ") == 2
        assert "0 messages lie in it and 1 processes read it" in str(trouble.value)

    def test_sees_a_message_that_no_figure_knows_of(self, vhost: Vhost, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are seconds old; nothing is deleted on their word alone."""
        monkeypatch.setattr(topology_changes, "FIGURES_SECONDS", 0)
        apply(a_topology(), vhost.management, vhost.name, {"test-a": "p"})
        eventually(lambda: figures(vhost)["evt"] == (0, 0), seconds=60)
        with Connection(vhost.amqp_url) as connection:
            connection.Producer().publish("{}", exchange="a.events", routing_key="Happened")
        eventually(lambda: waiting(vhost.amqp_url, "evt") == 1)

        with pytest.raises(Trouble, match="not replaced: "):
            apply(a_topology(limit=6), vhost.management, vhost.name, {"test-a": "p"}, replace_empty=True)

        assert waiting(vhost.amqp_url, "evt") == 1

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
