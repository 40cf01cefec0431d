"""Each service may do in the broker what its code does, and nothing else."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
from amqp import Channel
from amqp.basic_message import Message
from amqp.exceptions import AccessRefused, NotAllowed
from nameko.standalone.rpc import ClusterRpcProxy

from tests.support.theatre import EVENT, QUEUE, Theatre

RPC = "nameko-rpc"


@pytest.fixture
def channel(stage: Theatre) -> Iterator[Callable[[str], Channel]]:
    """``channel("teller")`` is a confirming channel as that user."""
    opened = []

    def open_channel(user: str) -> Channel:
        connection = stage.connect(user)
        opened.append(connection)
        channel = connection.channel()
        channel.confirm_select()
        return channel

    yield open_channel
    for connection in opened:
        connection.collect()


def publish(channel: Channel, exchange: str, routing_key: str) -> None:
    """Send an empty message there."""
    channel.basic_publish_confirm(Message(b""), exchange, routing_key)


class TestAllowed:
    """What the code does works."""

    @pytest.mark.parametrize(
        ("user", "exchange", "key"),
        [
            ("teller", "teller.events", EVENT),
            ("teller", RPC, "listener.relay"),
            ("listener", RPC, "teller.tell"),
            ("listener", RPC, "reply.teller.0-0"),
            ("listener", "listener.retry.100", "x"),
            ("listener", "listener.dead-letters", "x"),
            ("operator", "teller.events", "NobodyAsksEvent"),
            ("operator", "listener.redeliver", "nothing"),
        ],
    )
    def test_publishes_where_it_belongs(
        self, channel: Callable[[str], Channel], user: str, exchange: str, key: str
    ) -> None:
        """The broker takes it."""
        publish(channel(user), exchange, key)

    def test_declares_its_reply_queue(self, channel: Callable[[str], Channel]) -> None:
        """And binds it to its own key."""
        own = channel("teller")
        own.queue_declare("rpc.reply-teller-0-0", exclusive=True)
        own.queue_bind("rpc.reply-teller-0-0", RPC, "reply.teller.0-0")

    def test_nameko_shell_opens_for_the_operator(self, stage: Theatre) -> None:
        """It makes its reply queue first, whether anybody calls or not."""
        proxy = ClusterRpcProxy({"AMQP_URI": stage.amqp_url("operator")})

        assert proxy.start() is not None

        proxy.stop()


class TestRefused:
    """What only another service does is refused."""

    @pytest.mark.parametrize(
        ("user", "exchange", "key"),
        [
            ("teller", "listener.events", EVENT),
            ("listener", "teller.events", EVENT),
            ("teller", "listener.retry.100", QUEUE),
            ("teller", "listener.redeliver", QUEUE),
            ("listener", "listener.redeliver", QUEUE),
            ("teller", "listener.dead-letters", "x"),
            ("teller", "", QUEUE),
            ("listener", "", QUEUE),
            ("operator", "", QUEUE),
            ("teller", "amq.topic", "x"),
            ("teller", RPC, "teller.tell"),
            ("listener", RPC, "teller.unlisted"),
            ("listener", RPC, "reply.listener.0-0"),
            ("operator", RPC, "teller.tell"),
            ("operator", "listener.dead-letters", "x"),
        ],
    )
    def test_publishes_nowhere_else(
        self, channel: Callable[[str], Channel], user: str, exchange: str, key: str
    ) -> None:
        """Not to another's exchange, not past the exchanges, not a call it never makes."""
        with pytest.raises(AccessRefused):
            publish(channel(user), exchange, key)

    @pytest.mark.parametrize(
        "act",
        [
            lambda channel: channel.basic_consume(QUEUE),
            lambda channel: channel.basic_get(QUEUE),
            lambda channel: channel.basic_get("listener.dead-letters"),
            lambda channel: channel.queue_purge(QUEUE),
            lambda channel: channel.queue_delete(QUEUE),
            lambda channel: channel.queue_declare("evt-mine"),
            lambda channel: channel.queue_declare("rpc.reply-listener-0-0", exclusive=True),
            lambda channel: channel.exchange_declare("mine.events", "topic"),
            lambda channel: channel.exchange_delete("teller.events"),
        ],
    )
    def test_touches_nobody_elses_queues(
        self, channel: Callable[[str], Channel], act: Callable[[Channel], Any]
    ) -> None:
        """The teller neither reads nor changes what is the listener's, nor makes anything new."""
        with pytest.raises(AccessRefused):
            act(channel("teller"))

    @pytest.mark.parametrize("key", ["reply.listener.0-0", "listener.relay", "#"])
    def test_listens_to_nobody_elses_calls_and_answers(self, channel: Callable[[str], Channel], key: str) -> None:
        """A reply queue hears its own answers."""
        own, name = channel("teller"), f"rpc.reply-teller-{uuid4()}"  # the broker may still know that of the last test
        own.queue_declare(name, exclusive=True)

        with pytest.raises(AccessRefused):
            own.queue_bind(name, RPC, key)

    def test_enters_no_other_virtual_host(self, stage: Theatre) -> None:
        """Its permissions are of one."""
        url = stage.amqp_url("teller").rpartition("/")[0] + "/%2F"

        with pytest.raises((NotAllowed, AccessRefused)), closing(stage.connect_to(url)):
            pytest.fail("the teller is in")
