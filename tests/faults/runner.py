"""``nameko run`` with a hand on the process: ``python -m tests.faults.runner run --config config.yaml <module>``.

A keeper imports the service once, as ``nameko run`` does, and forks a process that becomes ``nameko run``; when that
ends it forks the next, until it is asked to stop itself. The process passes its points by way of :mod:`hooks`, which
stop it where a wish says so.
"""

import ctypes
import os
import signal
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

import eventlet

eventlet.monkey_patch()  # as `nameko run` does before it imports a service

from eventlet import hubs, patcher  # noqa: E402
from nameko.cli.main import main as nameko  # noqa: E402

from tests.faults import hooks  # noqa: E402
from tests.faults.stops import VARIABLE, Stops  # noqa: E402

REAL: Final[Any] = patcher.original("os")
"""The keeper waits for its child as processes do, not as greenthreads do."""

SET_DEATH_SIGNAL: Final = 1


class Keeper:
    """Keeps one process running."""

    def __init__(self, stops: Stops) -> None:
        self.stops = stops
        self.child = 0
        self.stopping = False

    def run(self) -> None:
        """Fork, wait, and again, until asked to stop."""
        signal.signal(signal.SIGTERM, self._stop)
        while not self.stopping:
            self.child = REAL.fork()
            if not self.child:
                become_nameko()
            _, status = REAL.waitpid(self.child, 0)
            self.stops.note_end(self.child, os.waitstatus_to_exitcode(status))

    def _stop(self, _number: int, _frame: object) -> None:
        self.stopping = True
        if self.child:
            os.kill(self.child, signal.SIGTERM)


def become_nameko() -> NoReturn:
    """What ``nameko run`` does, in this process, which dies with its keeper."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)
    hubs.use_hub()  # the keeper's is the keeper's
    code = 1
    try:
        nameko()
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Import the service named last, and keep it running."""
    warnings.filterwarnings("ignore")
    stops = Stops(Path(os.environ[VARIABLE]))
    import_module("nameko.cli.run")
    import_module(sys.argv[-1])
    hooks.install(stops)
    Keeper(stops).run()


if __name__ == "__main__":
    main()
