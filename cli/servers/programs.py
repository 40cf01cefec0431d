"""What to run, and running it as a child: the tests' way. ``up`` gives the same programs to a supervisor."""

import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cli.trouble import Trouble

SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
LOG_LINES = 15
STOP_SECONDS = 10
LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process to keep running: everything a supervisor must know about it."""

    name: str
    arguments: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    """The account it runs as; empty means whoever runs the command."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: int = 25


@dataclass(frozen=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int


def unprivileged() -> Account | None:
    """Another account to become when we are root, for programs that refuse uid 0; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise Trouble(
        "PostgreSQL refuses to run as root, and this machine has neither a user 'postgres' nor 'nobody'. "
        "Run ./oms as a normal user, or set OMS_POSTGRES_URL to a server of your own."
    )


def run(
    arguments: Sequence[str],
    account: Account | None = None,
    environment: Mapping[str, str] | None = None,
    says: str = "",
) -> str:
    """What the program printed, having read ``says``; raises :class:`Trouble` with its last lines when it fails."""
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            arguments,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            input=says,
            text=True,
            cwd="/",
            env={**os.environ, **(environment or {})},
            **identity(account),
        )
    except OSError as error:
        raise Trouble(f"{arguments[0]} cannot be run: {error}.") from error
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-LOG_LINES:])
        raise Trouble(f"{Path(arguments[0]).name} failed with code {done.returncode}:\n{last}")
    return done.stdout


def identity(account: Account | None) -> dict[str, Any]:
    """The arguments with which ``subprocess`` starts something as that account."""
    return {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}


class Child:
    """A program running as our child, its output in a log file; it dies with us, even when we are killed.

    More exactly it dies with the thread that made it: one of a pool must not.
    """

    def __init__(self, program: Program, log: Path) -> None:
        self.program = program
        self.log = log
        entry = pwd.getpwnam(program.account) if program.account else None
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                program.arguments,
                cwd=program.folder,
                env={**os.environ, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: LIBC.prctl(SET_DEATH_SIGNAL, program.stop_signal),  # noqa: PLW1509 - one system call
                **identity(Account(entry.pw_name, entry.pw_uid, entry.pw_gid) if entry else None),
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def stop(self) -> None:
        """Ask it to stop, and kill it with all its offspring when it does not within its time."""
        if self.alive:
            family = tree(self.process.pid)
            signal_all(family, signal.SIGCONT)
            self.process.send_signal(self.program.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.program.stop_seconds)
            signal_all(family, signal.SIGKILL)
        self.process.wait()

    def kill(self) -> None:
        """SIGKILL to it and all its offspring, as a power cut would."""
        family = tree(self.process.pid)
        signal_all(family, signal.SIGKILL)
        self.process.wait()
        psutil.wait_procs(family, timeout=STOP_SECONDS)  # PostgreSQL does not start beside what is left of it

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all its offspring; once this returns, none of those told to stop still runs."""
        family = tree(self.process.pid)
        signal_all(family, number)
        if number == signal.SIGSTOP:
            wait_until(lambda: all(map(stands_still, family)), seconds=STOP_SECONDS)


def tree(pid: int) -> list[psutil.Process]:
    """The process and all that descends from it; empty when it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def stands_still(process: psutil.Process) -> bool:
    """Whether every thread of the process is stopped, or it is gone: on a busy machine that takes a while."""
    try:
        states = [
            file.read_text().rpartition(")")[2].split()[0] for file in Path(f"/proc/{process.pid}/task").glob("*/stat")
        ]
    except OSError:
        return False
    return set(states) <= set("TtZX")


def signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to each that still lives; psutil knows a process id that was given to somebody else."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def wait_until(ready: Callable[[], bool], *, seconds: float, alive: Callable[[], bool] = lambda: True) -> bool:
    """Whether ``ready()`` became true in time; gives up early when ``alive()`` is no longer true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        if not alive():
            return False
        time.sleep(0.05)
    return ready()


def last_lines(log: Path, count: int = LOG_LINES) -> str:
    """The end of a log file, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])
