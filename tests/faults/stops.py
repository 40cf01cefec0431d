"""Stopping a process at one point of its work: what a test wishes, and what the process writes before it is stopped.

A wish is a file ``armed/<tag>``, where the tag is the correlation id of the requests that the test makes. Whoever comes
by its point first takes it by renaming it, so a wish is fulfilled once, however many instances there are.
"""

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import psutil

from tests.support.until import eventually

VARIABLE: Final = "OMS_TEST_STOPS"
"""The environment variable with the folder of the wishes."""


class Point(StrEnum):
    """Where a process may be stopped: the list of the saga's page."""

    DELIVERED = "delivered but not started"
    BEFORE_COMMIT = "before commit"
    AFTER_COMMIT = "after commit, before ack"
    AFTER_ACK = "after ack"
    CLAIMED = "outbox row claimed"
    PUBLISHED = "published, not confirmed"
    CONFIRMED = "confirmed, not marked"
    MID_BATCH = "mid-batch"
    BEFORE_PROCESSOR = "before the processor"
    AFTER_PROCESSOR = "after the processor, before the record"
    MESSAGE_CLAIMED = "message claimed"
    MESSAGE_SENT = "message sent"
    MESSAGE_RECORDED = "message recorded, before ack"
    BEFORE_RPC = "before RPC"
    RPC_SENT = "RPC sent"
    REPLY_LOST = "committed, reply lost"
    ANSWER_UNWRITTEN = "reply in, answer unwritten"
    TIMER_BEFORE_COMMIT = "timer, batch not committed"
    TIMER_AFTER_COMMIT = "timer, batch committed"


class Signal(StrEnum):
    """What is done to the process."""

    KILL = "killed"
    TERM = "asked to stop"
    STOP = "frozen"

    @property
    def number(self) -> signal.Signals:
        """The signal itself."""
        return {Signal.KILL: signal.SIGKILL, Signal.TERM: signal.SIGTERM, Signal.STOP: signal.SIGSTOP}[self]


@dataclass(frozen=True)
class Wish:
    """Stop the process that does this to ``subject``: a handler, an event, a call, a route, a timer.

    A timer that has nothing to do is not stopped, unless ``idle`` says so.
    """

    point: str
    subject: str
    signal: str
    idle: bool = False


@dataclass(frozen=True)
class Hit:
    """A wish that was fulfilled, and on which process."""

    wish: Wish
    pid: int

    @property
    def is_frozen(self) -> bool:
        """Whether the process is stopped now."""
        return psutil.pid_exists(self.pid) and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def thaw(self) -> None:
        """Let the process go on."""
        os.kill(self.pid, signal.SIGCONT)


class Stops:
    """The folder of the wishes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("armed", "taken", "hit", "stopped", "ended"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # --- the test's side

    def arm(self, tag: str, wish: Wish) -> None:
        """Wish for a stop."""
        _write(self.folder / "armed" / tag, json.dumps(asdict(wish)))

    def disarm(self, tag: str) -> None:
        """Wish no more."""
        (self.folder / "armed" / tag).unlink(missing_ok=True)

    def forget(self, tag: str) -> None:
        """Make room for another wish of the same tag."""
        (self.folder / "hit" / tag).unlink(missing_ok=True)

    def hit(self, tag: str) -> Hit | None:
        """Who was stopped, if anybody was."""
        try:
            found = json.loads((self.folder / "hit" / tag).read_text())
        except FileNotFoundError:
            return None
        return Hit(Wish(**found["wish"]), found["pid"])

    def wait_end(self, pid: int, seconds: float) -> int:
        """With which code the process ended; a signal's number is negative."""
        file = self.folder / "ended" / str(pid)
        return int(eventually(lambda: file.read_text() if file.exists() else "", seconds=seconds))

    def unexplained(self) -> set[str]:
        """The processes that ended although nobody stopped them."""
        ended, stopped = ({file.name for file in (self.folder / name).glob("[0-9]*")} for name in ("ended", "stopped"))
        return ended - stopped

    # --- the process's side

    def wish(self, tag: str, point: Point, subject: str) -> Wish | None:
        """The wish for this very point, if there is one."""
        try:
            wish = Wish(**json.loads((self.folder / "armed" / tag).read_text()))
        except FileNotFoundError:
            return None
        return wish if (wish.point, wish.subject) == (point, subject) else None

    def take(self, tag: str, wish: Wish) -> bool:
        """Whether the wish is ours alone; then everybody can read that it hit us."""
        try:
            (self.folder / "armed" / tag).rename(self.folder / "taken" / tag)
        except FileNotFoundError:
            return False
        if wish.signal != Signal.STOP:
            (self.folder / "stopped" / str(os.getpid())).touch()
        _write(self.folder / "hit" / tag, json.dumps({"wish": asdict(wish), "pid": os.getpid(), "at": time.time()}))
        return True

    def note_end(self, pid: int, code: int) -> None:
        """Say that the process is gone."""
        _write(self.folder / "ended" / str(pid), str(code))


def _write(file: Path, text: str) -> None:
    """The file with this text, there as a whole or not at all."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(file)
