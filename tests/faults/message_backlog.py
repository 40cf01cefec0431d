"""A queue full of messages, how fast one process works them off, and how much memory it takes meanwhile."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from amqp.basic_message import Message

from cli.servers.programs import wait_until
from services.chassis.topology import Subscription
from tests.faults.message_detour import opened
from tests.support.cluster import Cluster
from tests.support.operator import Operator

BATCH: Final = 1_000


def fill(operator: Operator, to: Subscription, body: bytes, count: int) -> None:
    """Put that many copies of a message into the queue; the broker has confirmed each."""
    with opened(operator) as channel:
        confirmed = 0

        def note(tag: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp calls it so
            nonlocal confirmed
            confirmed = tag if multiple else confirmed + 1

        channel.events["basic_ack"].add(note)
        message = Message(body, content_type="application/json", delivery_mode=2)
        for number in range(1, count + 1):
            channel._basic_publish(message, f"{to.service}.redeliver", to.queue)
            while number - confirmed > BATCH or (number == count and confirmed < count):
                channel.connection.drain_events(timeout=60)


@dataclass
class Drained:
    """How a backlog went: the process's memory at every look, and how long it took."""

    seconds: float = 0.0
    taken_bytes: list[int] = field(default_factory=list)

    @property
    def grown_bytes(self) -> int:
        """By how much the process ever was larger than when a fifth of it was done; until then it warms up."""
        return max(self.taken_bytes) - self.taken_bytes[len(self.taken_bytes) // 5]


def drain(cluster: Cluster, operator: Operator, to: Subscription, limit_seconds: float) -> Drained:
    """Watch the service's one process until the queue is empty."""
    process = psutil.Process(cluster.children[to.service].process.pid)
    drained, began = Drained(), time.monotonic()
    with opened(operator) as channel:

        def is_empty() -> bool:
            drained.taken_bytes.append(process.memory_info().rss)
            drained.seconds = time.monotonic() - began
            return not channel.queue_declare(to.queue, passive=True).message_count

        assert wait_until(is_empty, seconds=limit_seconds), f"not drained in {limit_seconds} s"
    return drained


def peaks(cluster: Cluster) -> dict[str, int]:
    """The most memory that each process ever had since this was asked last, in bytes."""
    return dict(_peaks(cluster))


def _peaks(cluster: Cluster) -> Iterator[tuple[str, int]]:
    for name, child in cluster.children.items():
        folder = Path(f"/proc/{child.process.pid}")
        lines: dict[str, Any] = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        yield name, int(lines["VmHWM"].split()[0]) * 1024
        (folder / "clear_refs").write_text("5")
