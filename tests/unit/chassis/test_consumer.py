"""The loop in which a service waits for messages."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis.consumer import QueueConsumer


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
