"""Doing what was planned: each act breaks one thing, and mends it when its block ends."""

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Event, Lock
from typing import Final

import psycopg2
import redis

from cli.databases import session
from cli.servers.ports import answers
from cli.trouble import Trouble
from tests.chaos.diary import Diary
from tests.chaos.ground import Ground
from tests.chaos.plan import Fault
from tests.support import lines

STOP_SECONDS: Final = 60
"""Whoever has not ended so long after SIGTERM hangs; on an idle machine it takes no more than 18."""

STALL_SECONDS: Final = 3.0
"""When this process itself stands still for so long, so did the services, and nobody is to blame."""

WATCH_SECONDS: Final = 0.25

Act = Callable[[Ground, str, Diary], AbstractContextManager[None]]


@contextmanager
def killed(ground: Ground, instance: str, diary: Diary) -> Iterator[None]:
    """A crash; started again afterwards."""
    ground.down.add(instance)
    ground.cluster.kill(instance)
    yield
    back(ground, instance)


@contextmanager
def terminated(ground: Ground, instance: str, diary: Diary) -> Iterator[None]:
    """Asked to stop, as a deployment does; started again when it has."""
    process = ground.cluster.children[instance].process
    was_at_work = answers(ground.cluster.ports[instance])  # before, nothing of ours listens to signals either
    ground.down.add(instance)
    process.send_signal(signal.SIGTERM)
    yield
    try:
        code = process.wait(STOP_SECONDS)
        if code and (was_at_work or code != -signal.SIGTERM):
            diary.wrong(f"{instance} ended with {code} after SIGTERM")
    except subprocess.TimeoutExpired:
        diary.wrong(f"{instance} did not end within {STOP_SECONDS} s of SIGTERM")
        ground.cluster.kill(instance)
    back(ground, instance)


def back(ground: Ground, instance: str) -> None:
    """Start the instance again, as a supervisor does."""
    with ground.supervision:
        ground.cluster.spawn(instance)
        ground.down.discard(instance)


@contextmanager
def frozen(ground: Ground, instance: str, diary: Diary) -> Iterator[None]:
    """A process that hangs, with all its connections open."""
    ground.cluster.freeze(instance)
    yield
    ground.cluster.thaw(instance)


def restart(ground: Ground, server: str) -> None:
    """Bring the server back; raises Trouble when it has ended again, or not got ready in twice the usual time."""
    try:
        ground.servers.restart(server)
    except Trouble:  # everything starts at once after a crash, which takes a busy machine longer
        ground.servers.wait(server)


@contextmanager
def missing(ground: Ground, server: str) -> Iterator[None]:
    """Within the block the server is known to be away."""
    ground.down.add(server)
    yield
    ground.down.discard(server)


@contextmanager
def server_killed(ground: Ground, server: str, diary: Diary) -> Iterator[None]:
    """As a power cut would end it."""
    with missing(ground, server):
        ground.servers.kill(server)
        yield
        restart(ground, server)


@contextmanager
def server_restarted(ground: Ground, server: str, diary: Diary) -> Iterator[None]:
    """Stopped in good order, as for an upgrade."""
    with missing(ground, server):
        ground.servers.end(server)
        yield
        restart(ground, server)


@contextmanager
def server_frozen(ground: Ground, server: str, diary: Diary) -> Iterator[None]:
    """A server that hangs, with all its connections open."""
    with missing(ground, server):
        ground.servers.freeze(server)
        yield
        ground.servers.thaw(server)


def hurt_line(fault: lines.Fault) -> Act:
    """The act that lets a line have the fault, and heals it."""

    @contextmanager
    def hurt(ground: Ground, line: str, diary: Diary) -> Iterator[None]:
        ground.lines[line].hurt(fault)
        yield
        ground.lines[line].heal()

    return hurt


def line_reset(ground: Ground, line: str, diary: Diary) -> AbstractContextManager[None]:
    """Every connection that the line carries is reset."""
    ground.lines[line].reset()
    return nullcontext()


def line_forgotten(ground: Ground, line: str, diary: Diary) -> AbstractContextManager[None]:
    """As by a firewall that has lost its memory: nothing is ever heard of the present connections again."""
    ground.lines[line].forget()
    return nullcontext()


def cut_from_database(ground: Ground, service: str, diary: Diary) -> AbstractContextManager[None]:
    """Every connection of the service's instances to PostgreSQL is ended, whatever it was doing."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
    with session(ground.cluster.place.endpoints.postgres_url) as cursor:
        cursor.execute(query, [service])
        diary.note(f"{cursor.rowcount} connections of {service} to PostgreSQL were cut")
    return nullcontext()


def cut_from_broker(ground: Ground, service: str, diary: Diary) -> AbstractContextManager[None]:
    """Every connection of the service's instances to RabbitMQ is closed."""
    broker = ground.cluster.broker
    found = [each["name"] for each in broker.get("connections") if each.get("user") == service]
    for name in found:
        broker.delete("connections", name)
    diary.note(f"{len(found)} connections of {service} to RabbitMQ were cut")
    return nullcontext()


def cut_from_redis(ground: Ground, target: str, diary: Diary) -> AbstractContextManager[None]:
    """Everybody's connections to Redis are closed."""
    with redis_of(ground) as client:
        client.client_kill_filter(_type="normal")
    return nullcontext()


def flushed(ground: Ground, target: str, diary: Diary) -> AbstractContextManager[None]:
    """Redis forgets everything."""
    with redis_of(ground) as client:
        client.flushall()
    return nullcontext()


def redis_of(ground: Ground) -> redis.Redis:
    """A client that gives up after a moment."""
    return redis.Redis.from_url(ground.cluster.place.endpoints.redis_url, socket_timeout=2, socket_connect_timeout=2)


ACTS: Final[Mapping[str, Act]] = {
    "kill": killed,
    "terminate": terminated,
    "freeze": frozen,
    "freeze long": frozen,
    "kill server": server_killed,
    "restart server": server_restarted,
    "freeze server": server_frozen,
    "reset line": line_reset,
    "forget line": line_forgotten,
    "silence to the server": hurt_line(lines.SILENT_UP),
    "silence from the server": hurt_line(lines.SILENT_DOWN),
    "black hole": hurt_line(lines.BLACK_HOLE),
    "late line": hurt_line(lines.LATE),
    "slow line": hurt_line(lines.TRICKLE),
    "cut from the database": cut_from_database,
    "cut from the broker": cut_from_broker,
    "cut from Redis": cut_from_redis,
    "flush Redis": flushed,
}
"""What does each kind of the plan."""


class Hand:
    """Carries the plan out, each fault in a thread of its own.

    The pool lives as long as what it starts: a child is sent its death signal when the *thread* that started it ends.
    """

    def __init__(self, ground: Ground, diary: Diary, pool: ThreadPoolExecutor) -> None:
        self.ground = ground
        self.diary = diary
        self.pool = pool
        self.enough = Event()

    def carry_out(self, faults: list[Fault], seconds: float) -> None:
        """Return after so many seconds, with every fault mended."""
        turns = {fault.target: Lock() for fault in faults}  # mending may take longer than planned
        waiting, at_work = list(faults), list[Future[None]]()
        try:
            while self.diary.seconds < seconds:
                while waiting and waiting[0].at <= self.diary.seconds:
                    fault = waiting.pop(0)
                    at_work.append(self.pool.submit(self.hurt, fault, turns[fault.target]))
                self.look_for_the_dead()
                looked = time.monotonic()
                time.sleep(WATCH_SECONDS)
                if time.monotonic() - looked > STALL_SECONDS:
                    self.diary.note(f"the machine stood still for {time.monotonic() - looked:.1f} s")
        finally:
            self.enough.set()
        for each in at_work:
            each.result()

    def hurt(self, fault: Fault, turn: Lock) -> None:
        """Break it, wait, and mend it, unless it is too late for that when the turn comes."""
        with turn:
            if not self.enough.is_set():
                self.have_a_turn(fault)

    def have_a_turn(self, fault: Fault) -> None:
        """Break it, wait, and mend it."""
        lasting = f" for {fault.seconds} s" if fault.seconds else ""
        self.diary.note(f"{fault.kind}: {fault.target}{lasting}")
        try:
            broken = ACTS[fault.kind](self.ground, fault.target, self.diary)
        except (Trouble, psycopg2.Error, redis.RedisError) as error:  # whoever cuts needs the server, too
            self.diary.note(f"{fault.kind}: {fault.target} was in vain: {str(error)[:100]}")
            return
        with broken:
            self.enough.wait(fault.seconds)
        if fault.seconds:
            self.diary.note(f"mended {fault.kind}: {fault.target}")

    def look_for_the_dead(self) -> None:
        """Whoever ended by himself is wrong, and started again."""
        with self.ground.supervision:
            for instance, child in list(self.ground.cluster.children.items()):
                if not child.alive and instance not in self.ground.down:
                    self.diary.wrong(f"{instance} ended by itself with {child.process.returncode}")
                    self.ground.cluster.spawn(instance)
