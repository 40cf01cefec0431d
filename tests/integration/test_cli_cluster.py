"""``./oms up`` to ``./oms down``, as a person runs them, in a state folder of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from cli.environments import ADMIN_EMAIL, admin_password
from cli.servers.place import remove
from cli.servers.ports import LOOPBACK, answers, is_free
from cli.servers.programs import wait_until
from cli.services import SERVICES
from cli.state import CHECKOUT, State
from cli.supervision import Supervisor

GIVEN = ("OMS_POSTGRES_URL", "OMS_RABBITMQ_URL", "OMS_RABBITMQ_MANAGEMENT_URL", "OMS_REDIS_URL")


class Person:
    """Somebody who types commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if name not in GIVEN}
        self.environment = {**kept, "OMS_STATE": str(folder), "PYTHONPATH": str(CHECKOUT)}

    def types(self, *command: str, says: str = "") -> subprocess.CompletedProcess[str]:
        """What came of the command, with ``says`` piped into it."""
        return subprocess.run(
            [sys.executable, "-m", "cli", *command],
            check=False,
            cwd=CHECKOUT,
            env=self.environment,
            input=says,
            capture_output=True,
            text=True,
        )

    def sees(self) -> dict[str, Any]:
        """The lines of ``status`` by process."""
        return {line["process"]: line for line in json.loads(self.types("status", "--json").stdout or "[]")}


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """A person whose cluster is up; whatever happens, nothing of it is left."""
    person = Person(tmp_path_factory.mktemp("a cluster") / "state")
    done = person.types("up")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        yield person
    finally:
        person.types("down")
        remove(person.folder)


class TestCluster:
    """One command starts everything, one stops it."""

    def test_is_ready_after_up(self, person: Person) -> None:
        """Status shows the servers and the six services, all ready, and says so with its exit code."""
        seen = person.sees()

        assert set(SERVICES) | {"postgres", "rabbitmq", "valkey"} <= set(seen)
        assert all(line["ready"] for line in seen.values())
        assert person.types("status").returncode == 0

    def test_is_left_alone_by_a_second_up(self, person: Person) -> None:
        """No process is started again."""
        before = {name: line["pid"] for name, line in person.sees().items()}

        again = person.types("up")

        assert again.returncode == 0, again.stderr
        assert {name: line["pid"] for name, line in person.sees().items()} == before, again.stdout

    def test_starts_again_what_dies(self, person: Person) -> None:
        """A service that was killed is ready again by itself."""
        before = person.sees()["orders"]["pid"]
        os.kill(before, signal.SIGKILL)

        def is_back() -> bool:
            line = person.sees()["orders"]
            return bool(line["ready"] and line["pid"] != before)

        assert wait_until(is_back, seconds=30)

    def test_keeps_what_it_knows_to_its_owner(self, person: Person) -> None:
        """No file with a password is readable by others."""
        for file in (*(person.folder / "env").iterdir(), *(person.folder / "secrets").iterdir()):
            assert file.stat().st_mode & 0o077 == 0, file

    def test_takes_an_event_by_hand(self, person: Person) -> None:
        """The operator's shell dispatches, and refuses what nobody is bound to."""
        done = person.types("shell", says='n.dispatch_event("orders", "OrderCreatedEvent", {"not": "one"})\n')
        lost = person.types("shell", says='n.dispatch_event("orders", "NobodysEvent", {})\n')

        assert done.returncode == 0, done.stderr
        assert lost.returncode == 1
        assert "UndeliverableMessage" in lost.stderr

    def test_shows_its_logs(self, person: Person) -> None:
        """The end of one service's log, or advice when there is none of that name."""
        assert "service_started" in person.types("logs", "gateway").stdout
        assert "there are" in person.types("logs", "nobody").stderr

    def test_goes_elsewhere_when_its_port_is_taken(self, person: Person) -> None:
        """A service and a server died, and others listened at their ports before they were back."""
        before = person.sees()
        supervisor = psutil.Process(int(Supervisor(State(person.folder)).calls.getPID()))
        supervisor.suspend()  # so that it starts nothing before the ports are taken
        with contextlib.ExitStack() as others:
            for name in ("payments", "valkey"):
                psutil.Process(before[name]["pid"]).kill()
                assert wait_until(partial(is_free, before[name]["port"]), seconds=10)
                other = others.enter_context(socket.create_server((LOOPBACK, before[name]["port"])))
                other.listen()
            supervisor.resume()

            done = person.types("up")

        assert done.returncode == 0, done.stdout + done.stderr
        after = person.sees()
        assert all(line["ready"] for line in after.values())
        assert {name for name in before if after[name]["port"] != before[name]["port"]} == {"payments", "valkey"}

    def test_mends_a_state_that_is_half_written(self, person: Person) -> None:
        """Zeros in every file of its own, as after a power cut, with the cluster at work or not."""
        for file in (person.folder / "ports.json", *(person.folder / "env").iterdir()):
            file.write_bytes(b"\0" * file.stat().st_size)

        assert person.types("status").returncode == 1
        done = person.types("up")

        assert done.returncode == 0, done.stdout + done.stderr
        assert all(line["ready"] for line in person.sees().values())

    def test_grows_and_shrinks(self, person: Person) -> None:
        """A further instance runs beside the first and goes again."""
        assert person.types("up", "--scale", "payments=2").returncode == 0
        seen = person.sees()
        assert seen["payments-2"]["ready"]
        assert seen["payments-2"]["port"] != seen["payments"]["port"]

        assert person.types("up", "--scale", "payments=1").returncode == 0
        assert "payments-2" not in person.sees()

    def test_recovers_from_a_power_cut(self, person: Person) -> None:
        """After everything was killed at once and every secret lost, ``up`` mends it, and its administrator gets in."""
        state = State(person.folder)
        processes = Supervisor(state).leftovers()
        for process in processes:
            process.suspend()  # so that none is started again by another
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=10)
        for file in (person.folder / "secrets").iterdir():
            file.write_bytes(b"")

        done = person.types("up")

        assert done.returncode == 0, done.stdout + done.stderr
        seen = person.sees()
        assert all(line["ready"] for line in seen.values())
        login = {"email": ADMIN_EMAIL, "password": admin_password(state)}
        url = f"http://{LOOPBACK}:{seen['gateway']['port']}/api/auth/login"
        assert requests.post(url, json=login, timeout=10).ok

    def test_leaves_nothing_after_down(self, person: Person) -> None:
        """No process, no port; and a second ``down`` is fine. ``up`` brings everything back."""
        usual = {service.http_port for service in SERVICES.values()}  # which another cluster may want, too
        ports = {line["port"] for line in person.sees().values()} - usual

        assert person.types("down").returncode == 0

        assert not Supervisor(State(person.folder)).leftovers()
        assert not any(answers(port) for port in ports)
        assert person.types("down").returncode == 0
        assert person.types("status").returncode == 1
        assert person.types("up").returncode == 0
