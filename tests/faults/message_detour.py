"""A detour for events: instead of to their subscribers they go to a queue of the test's own, which hands them on.

Later, several times, or both; the subscribers get them as they get what is delivered once more.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from amqp import Channel
from amqp.basic_message import Message
from kombu.connection import Connection

from services.chassis.topology import Subscription
from tests.support.operator import Operator

PAUSE_SECONDS = 0.01


class Detour:
    """What these subscriptions are to get lies here meanwhile; ``handed_on`` counts what each has got."""

    def __init__(self, operator: Operator, subscriptions: Iterable[Subscription]) -> None:
        self.operator = operator
        self.subscriptions = list(subscriptions)
        self.queue = f"test-detour-{uuid4()}"
        self.handed_on: Counter[Subscription] = Counter()

    @contextmanager
    def on(self) -> Iterator["Detour"]:
        """While the block runs nothing takes the direct way; in the end everything is handed on once."""
        with self._channel() as channel, ExitStack() as cuts:
            channel.queue_declare(self.queue, durable=True, auto_delete=False)
            for each in self.subscriptions:
                channel.queue_bind(self.queue, f"{each.source}.events", each.event)
            for each in self.subscriptions:
                cuts.enter_context(self.operator.cut(each))
            try:
                yield self
            finally:
                cuts.close()
                self.hand_on()
                channel.queue_delete(self.queue)

    @contextmanager
    def copying(self, times: int) -> Iterator["Detour"]:
        """While the block runs every event goes on at once, so many times, one copy behind the other."""
        over = Event()
        with self.on():
            thread = Thread(target=self._copy, args=(times, over))
            thread.start()
            try:
                yield self
            finally:
                over.set()
                thread.join()

    def _copy(self, times: int, over: Event) -> None:
        with self._channel() as channel:
            while not over.wait(PAUSE_SECONDS):
                self._drain(channel, times)

    def count(self) -> int:
        """How many events lie here."""
        with self._channel() as channel:
            return int(channel.queue_declare(self.queue, passive=True).message_count)

    def hand_on(self, times: int = 1) -> None:
        """Let the subscribers have what lies here."""
        with self._channel() as channel:
            self._drain(channel, times)

    def _drain(self, channel: Channel, times: int) -> None:
        while (message := channel.basic_get(self.queue)) is not None:
            for each in self.subscriptions:
                if f"{each.source}.events" == message.delivery_info["exchange"] and each.event == _key(message):
                    send(channel, each, message.body, times, **message.properties)
                    self.handed_on[each] += times
            channel.basic_ack(message.delivery_tag)

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        with opened(self.operator) as channel:
            yield channel


def _key(message: Any) -> str:
    return str(message.delivery_info["routing_key"])


@contextmanager
def opened(operator: Operator) -> Iterator[Channel]:
    """A channel of the broker's administrator, which confirms what is published on it."""
    url = operator.cluster.place.vhost.amqp_url
    with closing(Connection(url).transport.establish_connection()) as connection:
        channel = connection.channel()
        channel.auto_decode = False
        channel.confirm_select()
        yield channel


def send(channel: Channel, to: Subscription, body: Any, times: int = 1, **properties: Any) -> None:
    """Put so many copies of a message into the queue of one subscription, and nobody else's."""
    for _ in range(times - 1):
        channel._basic_publish(Message(body, **properties), f"{to.service}.redeliver", to.queue)
    channel.basic_publish_confirm(Message(body, **properties), f"{to.service}.redeliver", to.queue)
