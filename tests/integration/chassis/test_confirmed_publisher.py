"""What the broker says of each message, and that it is listened to."""

from collections.abc import Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from cli.servers.vhosts import Vhost
from services.chassis.broker import ConfirmedPublisher, Message
from tests.support.lines import Line
from tests.support.until import eventually


@pytest.fixture
def publisher(vhost: Vhost) -> Iterator[ConfirmedPublisher]:
    """Publishes in this test's virtual host."""
    with closing(ConfirmedPublisher({"AMQP_URI": vhost.amqp_url})) as publisher:
        yield publisher


def make_queue(vhost: Vhost, name: str, **arguments: object) -> None:
    """A queue of that name; the default exchange brings it what is addressed to it."""
    body = {"durable": True, "arguments": {"x-queue-type": "classic", **arguments}}
    vhost.broker.put("queues", vhost.name, name, body=body)


def a_message(queue: str) -> Message:
    """Something for that queue."""
    return Message(exchange="", routing_key=queue, body=b"{}")


class TestPublish:
    """The index and reason of each message that no queue took."""

    def test_names_what_no_queue_wants(self, publisher: ConfirmedPublisher, vhost: Vhost) -> None:
        """The others have arrived."""
        make_queue(vhost, "wanted")

        refused = publisher.publish([a_message("wanted"), a_message("unwanted"), a_message("wanted")])

        assert refused == {1: "no queue is bound for it"}

    def test_names_what_the_broker_refuses(self, publisher: ConfirmedPublisher, vhost: Vhost) -> None:
        """It has read them, and lost them; only its confirms tell."""
        make_queue(vhost, "narrow", **{"x-max-length": 1, "x-overflow": "reject-publish"})

        refused = publisher.publish([a_message("narrow")] * 3)

        assert refused == {1: "the broker refused it", 2: "the broker refused it"}

    def test_begins_anew_after_a_refusal(self, vhost: Vhost) -> None:
        """RabbitMQ 3.10 refuses a channel everything once it has met a queue that was just choosing its leader."""
        make_queue(vhost, "wide")
        make_queue(vhost, "narrow", **{"x-max-length": 1, "x-overflow": "reject-publish"})

        line = Line(urlsplit(vhost.amqp_url).port or 0)
        with line, closing(ConfirmedPublisher({"AMQP_URI": line.url(vhost.amqp_url)})) as publisher:
            publisher.publish([a_message("wide")])
            assert line.open_connections == 1
            publisher.publish([a_message("narrow")] * 2)
            eventually(lambda: line.open_connections == 0)

            assert publisher.publish([a_message("wide")]) == {}
