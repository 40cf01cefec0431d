"""A Nameko container whose stop always ends, and which logs what a worker raised exactly once.

Stock Nameko 2.14 reacts to SIGTERM only at the next I/O (the signal does not wake epoll: up to a minute when idle), and
under load may never finish: ``GreenPool.waitall`` waits on an event that the pool replaces while greenthreads queue for
a slot. Here a signal wakes the hub, waiting looks at the pool itself, and workers that outlast ``SHUTDOWN_SECONDS`` are
killed; their unacknowledged messages go back to their queues.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, Final

import eventlet
from eventlet.greenpool import GreenPool
from eventlet.hubs import trampoline
from nameko.constants import AMQP_SSL_CONFIG_KEY
from nameko.containers import ServiceContainer as StockContainer
from nameko.exceptions import ConfigurationError

from services.chassis import config
from services.chassis.errors import TimedOut
from services.chassis.logs import bound, get_logger
from services.chassis.tracing import CORRELATION, Trace

log = get_logger(__name__)

EXPIRES_AT: Final = "expires_at"
"""Context key: the ``monotonic()`` time after which nobody waits for the worker's answer."""

POLL_SECONDS: Final = 0.01
PULSE_SECONDS: Final = 0.25
SKIPPED_SECONDS: Final = 1.0
"""A pulse that is this late was no busy moment: the process was frozen."""

THAW_SECONDS: Final = 1.0
"""How long after it goes on a process may still find messages that came while it was frozen."""

STOP_MARGIN_SECONDS: Final = 3.0
"""What extensions may take after the last worker ended or was killed."""

_signals_wake_the_hub: list[Any] = []


def wake_the_hub_on_signals() -> None:
    """Let a signal interrupt the hub's epoll, once per process (PEP 475 made it resume instead)."""
    if _signals_wake_the_hub:
        return
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def drain() -> None:
        while True:
            trampoline(reader, read=True)
            with suppress(BlockingIOError):
                os.read(reader, 512)

    _signals_wake_the_hub.append(eventlet.spawn(drain))


@contextmanager
def refused_as_exit() -> Iterator[None]:
    """End the process with one line and code 1 when a setting cannot work; ``nameko run`` itself would say 0."""
    try:
        yield
    except ConfigurationError as error:
        raise SystemExit(f"Error: {error}") from None


class WorkerPool(GreenPool):
    """A pool whose ``waitall`` returns when it is empty, or at its deadline."""

    deadline: float | None = None

    def waitall(self) -> None:
        """Wait for running and queued workers, no longer than until the deadline."""
        while self.running() or self.waiting():
            if self.deadline is not None and monotonic() > self.deadline:
                return
            eventlet.sleep(POLL_SECONDS)


class ServiceContainer(StockContainer):
    """The container every service runs in; ``config.yaml`` names it as ``SERVICE_CONTAINER_CLS``."""

    def __init__(self, service_cls: type, settings: dict[str, Any]) -> None:
        with refused_as_exit():
            config.check(settings, service_cls.name)  # type: ignore[attr-defined] # Nameko insists on a name
        super().__init__(service_cls, {**settings, AMQP_SSL_CONFIG_KEY: config.broker_tls(settings)})
        self._worker_pool = WorkerPool(size=self.max_workers)
        self.stopping = False
        self._pulse = monotonic()
        self._frozen_from = self._frozen_until = float("-inf")

    def start(self) -> None:
        """Start every extension."""
        wake_the_hub_on_signals()
        self._pulse = monotonic()
        self.spawn_managed_thread(self._feel_pulse, identifier="pulse")
        self.started = True
        with refused_as_exit():
            for extension in self.extensions:
                extension.setup()
        self.extensions.all.start()
        log.info("service_started", service=self.service_name)

    def _feel_pulse(self) -> None:
        while True:
            eventlet.sleep(PULSE_SECONDS)
            now = monotonic()
            if now - self._pulse > SKIPPED_SECONDS:
                self._frozen_from, self._frozen_until = self._pulse, now
            self._pulse = now

    def received_at(self) -> float:
        """When a message that was read just now came, at the earliest, as ``monotonic()`` time.

        While a process is frozen messages wait in its socket, and their own age says nothing about that.
        """
        now = monotonic()
        if now - self._pulse > SKIPPED_SECONDS:
            return self._pulse
        return self._frozen_from if now - self._frozen_until < THAW_SECONDS else now

    def stop(self) -> None:
        """Finish what runs, then end; never later than SHUTDOWN_SECONDS and a margin. A second call changes nothing."""
        if self.stopping or self._died.ready():
            return  # stopped twice at once, extensions would wait for each other for ever
        self.stopping = True
        seconds = self.config["SHUTDOWN_SECONDS"]
        self._worker_pool.deadline = monotonic() + seconds
        reaper = eventlet.spawn_after(seconds, self._kill_worker_threads)
        try:
            with eventlet.Timeout(seconds + STOP_MARGIN_SECONDS):
                super().stop()
        except eventlet.Timeout:
            log.warning("stop_cut_short", service=self.service_name)
            self._end()
        finally:
            reaper.cancel()
        log.info("service_stopped", service=self.service_name)

    def _end(self) -> None:
        self._kill_worker_threads()
        self._kill_managed_threads()
        self.started = False
        if not self._died.ready():
            self._died.send(None)

    def _run_worker(self, worker_ctx: Any, handle_result: Any) -> None:
        """Run a worker with its correlation id on every log line, unless nobody waits for it any more."""
        trace = Trace.of(worker_ctx.data)
        worker_ctx.data[CORRELATION] = trace.correlation_id
        with bound(correlation_id=trace.correlation_id):
            if monotonic() > worker_ctx.data.get(EXPIRES_AT, float("inf")):
                handle_result(worker_ctx, None, (TimedOut, TimedOut("expired", "The caller has left."), None))
                return
            super()._run_worker(worker_ctx, partial(self._log_bugs, handle_result))

    @staticmethod
    def _log_bugs(handle_result: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
        """Log an error nobody expects, then let the entrypoint settle it. Event handlers log for themselves."""
        entrypoint = worker_ctx.entrypoint
        logs_itself = getattr(entrypoint, "logs_its_errors", False)
        if exc_info and not logs_itself and not isinstance(exc_info[1], entrypoint.expected_exceptions):
            log.error("worker_failed", method=entrypoint.method_name, exc_info=exc_info)
        if handle_result is None:
            return result, exc_info
        settled: tuple[Any, Any] = handle_result(worker_ctx, result, exc_info)
        return settled
