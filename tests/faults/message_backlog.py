"""A queue full of messages, how fast one process works them off, and how much memory it takes meanwhile."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from amqp.basic_message import Message

from cli.servers.programs import wait_until
from services.chassis.topology import Subscription
from tests.faults.message_detour import opened
from tests.support.cluster import Cluster
from tests.support.operator import Operator, counts
from tests.support.until import eventually

BATCH: Final = 1_000


def fill(operator: Operator, to: Subscription, bodies: Iterable[bytes]) -> int:
    """Put these messages into the queue, each of which the broker has confirmed; how many."""
    number = confirmed = 0
    with opened(operator) as channel:

        def note(tag: int, multiple: bool) -> None:  # noqa: FBT001 - py-amqp calls it so
            nonlocal confirmed
            confirmed = tag if multiple else confirmed + 1

        channel.events["basic_ack"].add(note)
        for number, body in enumerate(bodies, 1):
            message = Message(body, content_type="application/json", delivery_mode=2)
            channel._basic_publish(message, f"{to.service}.redeliver", to.queue)
            while number - confirmed > BATCH:
                channel.connection.drain_events(timeout=60)
        while confirmed < number:
            channel.connection.drain_events(timeout=60)
    return number


@dataclass(frozen=True)
class Worked:
    """How a new process has worked off a queue: how long it took, and the most memory that it ever had."""

    seconds: float
    most_bytes: int


def work_off(
    cluster: Cluster,
    operator: Operator,
    to: Subscription,
    bodies: Iterable[bytes],
    limit_seconds: float,
    meanwhile: Callable[[], object] = lambda: None,
) -> Worked:
    """Fill the queue while nobody reads it, let a new process begin, and wait until each message is acknowledged."""
    cluster.stop(to.service)
    count = fill(operator, to, bodies)
    cluster.start(to.service)
    began = time.monotonic()
    meanwhile()
    with opened(operator) as channel:

        def is_done() -> bool:
            """Those at the process are not in the queue, and not answered either."""
            waiting = channel.queue_declare(to.queue, passive=True).message_count
            return not waiting and answered(cluster, to) >= count

        assert wait_until(is_done, seconds=limit_seconds), f"not worked off in {limit_seconds} s"
    seconds = time.monotonic() - began
    eventually(lambda: left(operator, to) == 0, "all are acknowledged", 60)
    assert answered(cluster, to) == count
    return Worked(seconds, peaks(cluster)[to.service])


def answered(cluster: Cluster, to: Subscription) -> int:
    """How many deliveries the service's one process has answered since it began."""
    found = counts(cluster, to.service, "oms_handler_seconds_count", "handler")
    return found.get(f"{to.service}.{to.method}", 0)


def left(operator: Operator, to: Subscription) -> int:
    """How many messages the queue has, with those at the process; the broker may say so five seconds late."""
    return int(operator.broker.get("queues", operator.vhost, to.queue)["messages"])


@contextmanager
def growing(cluster: Cluster) -> Iterator[dict[str, int]]:
    """After the block: by how many bytes each process was ever larger meanwhile than before it."""
    peaks(cluster)  # what was before is forgotten
    before = peaks(cluster)
    grown: dict[str, int] = {}
    yield grown
    grown.update({name: peak - before[name] for name, peak in peaks(cluster).items() if name in before})


def peaks(cluster: Cluster) -> dict[str, int]:
    """The most memory that each process ever had since this was asked last, in bytes."""
    return dict(_peaks(cluster))


def _peaks(cluster: Cluster) -> Iterator[tuple[str, int]]:
    for name, pid in cluster.pids.items():
        folder = Path(f"/proc/{pid}")
        lines: dict[str, Any] = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        yield name, int(lines["VmHWM"].split()[0]) * 1024
        (folder / "clear_refs").write_text("5")
