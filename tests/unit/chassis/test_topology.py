import re

import pytest

from cli.services import service_classes
from cli.topology import wanted
from services.chassis.broker import RPC_EXCHANGE
from services.chassis.topology import OPERATOR, Binding, Queue, User, derive, read_wiring
from tests.support.stage import ListenerService, TellerService

TOPOLOGY = derive([ListenerService, TellerService], [100, 300])
QUEUE = "evt-teller-ThingHappenedEvent--listener.on_thing_happened"
USERS = {user.name: user for user in TOPOLOGY.users}
QUEUES = {queue.name: queue for queue in TOPOLOGY.queues}


def may(pattern: str, name: str) -> bool:
    """Whether the broker would say so; it searches, as ``re.search`` does."""
    return re.search(pattern, name) is not None


class Loner:
    """A service without any part in messaging."""

    name = "loner"


class TestWiring:
    """What a service's code says about its place among the others."""

    def test_reads_handlers_methods_and_calls(self) -> None:
        """From the decorators and the providers on the class."""
        wiring = read_wiring(ListenerService)

        assert [each.queue for each in wiring.subscriptions] == [QUEUE]
        assert wiring.methods == ("listener.relay",)
        assert wiring.calls == ("teller.answer", "teller.tell")
        assert wiring.publishes


class TestTopology:
    """Everything that must exist, and nothing else."""

    def test_is_the_same_whatever_the_order(self) -> None:
        """So that it can be compared."""
        assert derive([TellerService, ListenerService], [100, 300]) == TOPOLOGY

    def test_has_each_thing_once(self) -> None:
        """By name."""
        for things in (TOPOLOGY.exchanges, TOPOLOGY.queues, TOPOLOGY.users):
            names = [each.name for each in things]
            assert len(names) == len(set(names))
        assert len(set(TOPOLOGY.bindings)) == len(TOPOLOGY.bindings)

    def test_binds_only_what_exists(self) -> None:
        """Both ends of every binding."""
        exchanges = {exchange.name for exchange in TOPOLOGY.exchanges}

        assert {each.exchange for each in TOPOLOGY.bindings} <= exchanges
        assert {each.queue for each in TOPOLOGY.bindings} == set(QUEUES)

    def test_dead_letters_only_into_what_exists(self) -> None:
        """A message that expires or is refused goes on."""
        targets = {queue.arguments.get("x-dead-letter-exchange") for queue in TOPOLOGY.queues} - {None}

        assert targets == {"listener.dead-letters", "listener.redeliver", "teller.redeliver"}
        assert targets <= {exchange.name for exchange in TOPOLOGY.exchanges}

    def test_an_event_queue_loses_nothing(self) -> None:
        """Quorum, with at-least-once dead-lettering."""
        assert QUEUES[QUEUE] == Queue(
            QUEUE,
            arguments={
                "x-queue-type": "quorum",
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
                "x-delivery-limit": 100,
                "x-dead-letter-exchange": "listener.dead-letters",
            },
        )

    def test_every_queue_outlives_a_node_of_the_broker(self) -> None:
        """Also those for calls: a classic one exists for nobody while its node is dead."""
        assert {queue.arguments["x-queue-type"] for queue in TOPOLOGY.queues} == {"quorum"}

    def test_a_retry_leads_back_to_the_queue_it_came_from(self) -> None:
        """A fanout by delay, a direct exchange by queue name."""
        assert QUEUES["listener.retry.300"].arguments["x-message-ttl"] == 300
        assert Binding("listener.retry.300", "listener.retry.300") in TOPOLOGY.bindings
        assert Binding("listener.redeliver", QUEUE, QUEUE) in TOPOLOGY.bindings
        assert Binding("teller.events", QUEUE, "ThingHappenedEvent") in TOPOLOGY.bindings

    def test_a_loner_has_nothing_but_a_user_without_rights(self) -> None:
        """Its permissions match no name at all."""
        alone = derive([Loner], [100])

        assert [exchange.name for exchange in alone.exchanges] == ["nameko-rpc"]
        assert (alone.queues, alone.bindings) == ((), ())
        user = alone.users[0]
        assert not any(may(pattern, "loner.events") for pattern in (user.configure, user.write, user.read))

    def test_more_delays_only_add(self) -> None:
        """A setting that grows needs nothing to be deleted."""
        more = derive([ListenerService, TellerService], [100, 300, 900])

        assert {queue.name for queue in TOPOLOGY.queues} < {queue.name for queue in more.queues}
        assert set(TOPOLOGY.bindings) < set(more.bindings)


class TestUsers:
    """A user may do exactly what its service's code does."""

    @pytest.mark.parametrize(
        ("user", "right", "name", "allowed"),
        [
            ("teller", "write", "teller.events", True),
            ("teller", "write", "listener.events", False),
            ("teller", "write", "tellerXevents", False),
            ("teller", "write", "xteller.events", False),
            ("teller", "write", "teller.redeliver", False),
            ("teller", "write", "", False),
            ("teller", "write", "amq.default", False),
            ("listener", "read", QUEUE, True),
            ("listener", "read", QUEUE + "x", False),
            ("teller", "read", QUEUE, False),
            ("listener", "write", "listener.retry.100", True),
            ("listener", "write", "listener.retry.100x", False),
            ("listener", "write", "listener.dead-letters", True),
            ("listener", "read", "listener.dead-letters", False),
            ("listener", "read", "rpc-listener", True),
            ("listener", "read", "rpc-teller", False),
            ("listener", "configure", "rpc.reply-listener-12ab", True),
            ("listener", "configure", "rpc.reply-teller-12ab", False),
            ("listener", "configure", QUEUE, False),
            (OPERATOR, "write", "teller.events", True),
            (OPERATOR, "write", "listener.redeliver", True),
            (OPERATOR, "write", "nameko-rpc", False),
            (OPERATOR, "read", "listener.dead-letters", True),
            (OPERATOR, "read", QUEUE, False),
            (OPERATOR, "configure", "anything", False),
        ],
    )
    def test_rights_are_exact(self, user: str, right: str, name: str, allowed: bool) -> None:  # noqa: FBT001 - a table
        """Whole names, with dots that are dots."""
        assert may(getattr(USERS[user], right), name) is allowed

    @pytest.mark.parametrize(
        ("user", "key", "allowed"),
        [
            ("listener", "teller.tell", True),
            ("listener", "teller.other", False),
            ("listener", "reply.teller.12ab", True),
            ("listener", "reply.listener.12ab", False),
            ("teller", "listener.relay", True),
            ("teller", "teller.tell", False),
        ],
    )
    def test_calls_are_exact(self, user: str, key: str, allowed: bool) -> None:  # noqa: FBT001 - likewise
        """Only methods the proxies name, only answers to those who may ask."""
        topic = next(each for each in USERS[user].topic_permissions if each.exchange == "nameko-rpc")

        assert may(topic.write, key) is allowed

    @pytest.mark.parametrize("service", service_classes(), ids=lambda service: service.name)
    def test_may_look_whether_what_they_need_exists(self, service: type) -> None:
        """RabbitMQ since 4.2.6 tells nothing of a queue or exchange to a user without any right on it."""
        topology = wanted()
        wiring = read_wiring(service)
        (user,) = (each for each in topology.users if each.name == wiring.name)
        own = [f"{wiring.name}.events"] if wiring.publishes else []
        own += [each.queue for each in wiring.subscriptions]
        if wiring.methods or wiring.subscriptions:
            own += [each.name for each in topology.exchanges if each.name.startswith(f"{wiring.name}.")]
            own += [f"rpc-{wiring.name}"]

        assert [name for name in [*own, RPC_EXCHANGE] if not may(f"{user.write}|{user.read}", name)] == []

    def test_an_answer_can_be_heard_by_its_asker_only(self) -> None:
        """The binding key carries the asker's name."""
        for name, other in (("teller", "listener"), ("listener", "teller")):
            topic = next(each for each in USERS[name].topic_permissions if each.exchange == "nameko-rpc")
            assert may(topic.read, f"reply.{name}.12ab")
            assert not may(topic.read, f"reply.{other}.12ab")
            assert not may(topic.read, "#")

    def test_who_has_a_word_on_the_rpc_exchange_is_bounded_there(self) -> None:
        """A user without a topic permission could use every routing key."""

        def bounded(user: User) -> bool:
            return any(each.exchange == "nameko-rpc" for each in user.topic_permissions)

        assert all(bounded(user) for user in TOPOLOGY.users if may(user.write, "nameko-rpc"))
