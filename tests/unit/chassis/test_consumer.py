"""The loop in which a service waits for messages."""

from types import SimpleNamespace
from typing import Any

import pytest
from amqp.exceptions import NotFound

from services.chassis.consumer import QueueConsumer
from services.chassis.rpc_proxy import ReplyListener


class TestQueueConsumer:
    """Waits for messages, but not only."""

    @pytest.mark.parametrize(("heartbeat", "seconds"), [(1, 0.25), (2, 0.5), (10, 1.0)])
    def test_looks_up_before_the_brokers_next_heartbeat(
        self, monkeypatch: pytest.MonkeyPatch, heartbeat: int, seconds: float
    ) -> None:
        """Each one that arrives would let it wait anew, and its own would never be sent."""
        waits = []
        consumer = QueueConsumer()
        consumer.container = SimpleNamespace(config={"HEARTBEAT": heartbeat})

        def consume(limit: int | None, safety_interval: float, **_: Any) -> list[None]:
            consumer.should_stop = True
            waits.append(safety_interval)
            return []

        monkeypatch.setattr(consumer, "consume", consume)
        consumer.run()

        assert waits == [seconds]

    def test_takes_another_queue_for_answers_when_the_brokers_node_that_has_it_is_away(self) -> None:
        """RabbitMQ keeps the name for the day that node returns, and refuses it until then."""
        consumer, listener = QueueConsumer(), ReplyListener()
        listener.container = SimpleNamespace(service_name="orders")
        listener.queue_consumer = consumer
        listener.setup()
        consumer.required_exchanges.clear()  # this broker is asked for nothing else
        before = listener.queue.name

        def refuse(**_: Any) -> None:
            raise NotFound

        with pytest.raises(NotFound):
            consumer.get_consumers(refuse, SimpleNamespace(connection=None))

        assert listener.queue.name != before
        assert listener.queue.name.rpartition("orders-")[2] == listener.routing_key.rpartition(".")[2]
