"""The background: ``supervisord`` keeps the servers and services running, whatever becomes of the terminal.

Each program has a file of its own in ``supervisor/``; this module writes those files and talks to supervisord over a
socket that only its owner may open. It tries a program that will not start again for as long as it runs, a second
later each time.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Error, Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from cli.files import make_folder, secret, write_atomic
from cli.servers.place import servers_folder
from cli.servers.programs import Program, last_lines, signal_all, tree, wait_until
from cli.state import State
from cli.trouble import Trouble

MARK = "OMS_CLUSTER"
"""In the environment of every process of a cluster: its state folder. So they are found when supervisord is gone."""
USER = "oms"
RUNNING, STARTING, BACKOFF, STOPPING = "RUNNING", "STARTING", "BACKOFF", "STOPPING"


@dataclass(frozen=True)
class Process:
    """What supervisord says of one program."""

    name: str
    state: str
    pid: int
    seconds: int
    """How long it has run."""

    @property
    def runs(self) -> bool:
        """Whether there is a process, or one is on its way."""
        return self.state in {RUNNING, STARTING, BACKOFF}


class Supervisor:
    """The supervisor of one cluster."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.home = make_folder(servers_folder(state.folder) / "supervisor")
        self.socket = self.home / "socket"

    def ensure(self) -> bool:
        """Start supervisord unless it runs, first ending what an earlier one left behind; answers whether it did."""
        if self.answers():
            return False
        end(self.leftovers())
        self.socket.unlink(missing_ok=True)
        for file in self.home.glob("*.conf"):
            file.unlink()
        write_atomic(self.home / "main.ini", self.main_configuration())
        log = self.state.logs / "supervisord.out"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-s", "-c", str(self.home / "main.ini")],
                cwd="/",
                env={**os.environ, MARK: str(self.state.folder)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if not wait_until(self.answers, seconds=20, alive=lambda: process.poll() is None):
            raise Trouble(f"supervisord did not start:\n{last_lines(log)}")
        return True

    def main_configuration(self) -> str:
        """The part of its configuration that is about supervisord itself."""
        password = secret(self.state.secrets, "supervisor")
        return "\n".join(
            [
                "[supervisord]",
                f"logfile={escaped(self.state.logs / 'supervisord.log')}",
                "logfile_maxbytes=5MB",
                "logfile_backups=1",
                f"pidfile={self.home / 'pid'}",
                f"childlogdir={escaped(self.state.logs)}",
                *(["user=root"] if os.geteuid() == 0 else []),
                "[unix_http_server]",
                f"file={self.socket}",
                "chmod=0700",
                f"username={USER}",
                f"password={password}",
                "[rpcinterface:supervisor]",
                "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
                "[include]",
                f"files={self.home}/*.conf",
                "",
            ]
        )

    @property
    def calls(self) -> Any:
        """The remote procedures of supervisord."""
        password = secret(self.state.secrets, "supervisor")
        transport = SupervisorTransport(USER, password, f"unix://{self.socket}")
        return ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def answers(self) -> bool:
        """Whether supervisord runs and takes calls."""
        try:
            return bool(self.calls.getState()["statename"] == RUNNING)
        except (OSError, Error):
            return False

    def add(self, program: Program) -> None:
        """Make the program known, or changed; one that runs under other settings is stopped."""
        write_atomic(self.home / f"{program.name}.conf", configuration(program, self.state.logs))
        self.update()

    def remove(self, name: str) -> None:
        """Stop the program and forget it."""
        (self.home / f"{name}.conf").unlink(missing_ok=True)
        self.update()

    def update(self) -> None:
        """Tell supervisord which files have changed."""
        added, changed, removed = self.calls.reloadConfig()[0]
        for name in (*changed, *removed):
            self.stop([name])
            self.calls.removeProcessGroup(name)
        for name in (*added, *changed):
            self.calls.addProcessGroup(name)

    def start(self, name: str) -> None:
        """Start the program unless it runs; does not wait until it works."""
        with contextlib.suppress(Fault):  # it runs already
            self.calls.startProcess(name, False)  # noqa: FBT003 - XML-RPC has no keywords

    def stop(self, names: Iterable[str], seconds: float = 40) -> None:
        """Stop these programs, all at once; after its own time each is killed."""
        wanted = set(names)
        for name in wanted:
            with contextlib.suppress(Fault):  # it does not run
                self.calls.stopProcess(name, False)  # noqa: FBT003 - XML-RPC has no keywords
        wait_until(
            lambda: not any(process.runs or process.state == STOPPING for process in self.processes(wanted)),
            seconds=seconds,
        )

    def processes(self, names: Iterable[str] | None = None) -> list[Process]:
        """Every known program, or those with these names; none when supervisord does not run."""
        wanted = None if names is None else set(names)
        try:
            found = self.calls.getAllProcessInfo()
        except (OSError, Error):
            return []
        return [
            Process(entry["name"], entry["statename"], entry["pid"], max(0, entry["now"] - entry["start"]))
            for entry in found
            if wanted is None or entry["name"] in wanted
        ]

    def runs(self, name: str) -> bool:
        """Whether this program runs or is on its way."""
        return any(process.runs for process in self.processes([name]))

    def listens(self, name: str, port: int) -> bool:
        """Whether it is this program that listens on the port, and not somebody else."""
        return port in self.listening([name])

    def listening(self, names: Iterable[str] | None = None) -> set[int]:
        """The ports at which the programs of these names listen, or all of them."""
        return {port for process in self.processes(names) if process.pid for port in listening(process.pid)}

    def dies(self, name: str) -> bool:
        """Whether this program ends again and again right after it was started."""
        return any(process.state == BACKOFF for process in self.processes([name]))

    def shut_down(self) -> None:
        """End supervisord and whatever is left of the cluster."""
        names = [process.name for process in self.processes()]
        self.stop(names)
        with contextlib.suppress(OSError, Error):
            for name in names:  # its own shutdown takes a second for each program it knows
                self.calls.removeProcessGroup(name)
            pid = int(self.calls.getPID())
            self.calls.shutdown()
            wait_until(lambda: not psutil.pid_exists(pid), seconds=30)
        end(self.leftovers())

    def leftovers(self) -> list[psutil.Process]:
        """Every process of this cluster, known to a supervisor or not; never this one or those that started it."""
        place = str(servers_folder(self.state.folder))
        own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        return [
            process
            for process in psutil.process_iter()
            if process.pid not in own and belongs(process, str(self.state.folder), place)
        ]


def belongs(process: psutil.Process, folder: str, place: str) -> bool:
    """Whether the process is one of the cluster's.

    PostgreSQL and Valkey write their title over their environment; their working folder tells whose they are.
    """
    try:
        if process.environ().get(MARK) == folder:
            return True
        return Path(process.exe()).name in {"postgres", "valkey-server"} and process.cwd().startswith(f"{place}/")
    except (psutil.Error, OSError):
        return False


def listening(pid: int) -> set[int]:
    """The ports at which the process listens; none when it is gone."""
    try:
        found = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return set()
    return {connection.laddr.port for connection in found if connection.status == psutil.CONN_LISTEN}


def end(processes: list[psutil.Process]) -> None:
    """End the processes and their offspring, with force when asking does not help."""
    family = [member for process in processes for member in tree(process.pid)]
    signal_all(family, signal.SIGCONT)
    signal_all(family, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=10 if family else 0)
    signal_all(alive, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def configuration(program: Program, logs: Path) -> str:
    """The program's part of supervisord's configuration."""
    return "\n".join([f"[program:{program.name}]", *settings(program, logs), ""])


def settings(program: Program, logs: Path) -> Iterator[str]:
    """The lines of the program's part."""
    yield f"command={escaped(shlex.join(program.arguments))}"
    yield f"directory={escaped(program.folder)}"
    if program.environment:
        pairs = (f"{name}={quoted(escaped(value))}" for name, value in sorted(program.environment.items()))
        yield f"environment={','.join(pairs)}"
    if program.account:
        yield f"user={program.account}"
    yield f"stopsignal={program.stop_signal.name.removeprefix('SIG')}"
    yield f"stopwaitsecs={program.stop_seconds}"
    yield f"stdout_logfile={escaped(logs / f'{program.name}.log')}"
    yield from (
        "autostart=false",
        "autorestart=true",
        "startsecs=5",
        "startretries=1000000",
        "killasgroup=true",
        "redirect_stderr=true",
        "stdout_logfile_maxbytes=10MB",
        "stdout_logfile_backups=3",
    )


def escaped(value: object) -> str:
    """The text as supervisord's configuration wants it."""
    text = str(value)
    if " ;" in text or " #" in text or "\n" in text:
        raise Trouble(f"{text!r} cannot be given to supervisord. Move the checkout to a path without such characters.")
    return text.replace("%", "%%")


def quoted(value: str) -> str:
    """The value of a variable as supervisord wants it, which knows quotes but no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def uptime(seconds: int) -> str:
    """The time in words as short as they get."""
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86_400 else f"{seconds // 86_400} d"
