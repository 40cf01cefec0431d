"""``/healthz``, ``/readyz`` and ``/metrics`` of a service, on its HTTP port, whether or not it has handlers of its own.

Readiness asks every extension of the container that has ``check_ready() -> str | None``: None when all is well, else
what is missing. One with ``optional_dependency = True`` can only degrade: without it the service is slower, not wrong.
"""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

import eventlet
from eventlet.semaphore import Semaphore
from eventlet.timeout import Timeout
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from services.chassis import wire
from services.chassis.http_app import Request
from services.chassis.http_server import HttpServer
from services.chassis.logs import get_logger
from services.chassis.provider import Provider

log = get_logger(__name__)

CHECK_SECONDS: Final = 2.0
FRESH_SECONDS: Final = 0.5
"""Who asks again so soon gets the same answer: probing must not become a load."""


class Probes(Provider[None]):
    """Starts the service's HTTP server and answers its probes. Injects nothing."""

    server = HttpServer()

    def __init__(self) -> None:
        self._asking = Semaphore()
        self._last: tuple[float, Response | None] = (0.0, None)

    def setup(self) -> None:
        """Register the three routes."""
        self.server.register_provider(Probe("/healthz", self._health))
        self.server.register_provider(Probe("/readyz", self._readiness))
        self.server.register_provider(Probe("/metrics", self._metrics))

    def stop(self) -> None:
        """Stop answering; the workers are through by now."""
        self.server.drain()

    def get_dependency(self, worker_ctx: Any) -> None:
        """Nothing: probes are for those outside."""

    def _health(self) -> Response:
        return _json(200, {"status": "alive", "service": self.container.service_name})

    def _metrics(self) -> Response:
        return Response(generate_latest(), content_type=CONTENT_TYPE_LATEST)

    def _readiness(self) -> Response:
        with self._asking:
            asked_at, answer = self._last
            if answer is None or monotonic() - asked_at > FRESH_SECONDS:
                answer = self._ask()
                self._last = (monotonic(), answer)
        return Response(answer.get_data(), answer.status_code, answer.headers)

    def _ask(self) -> Response:
        extensions = [each for each in self.container.extensions if hasattr(each, "check_ready")]
        answers = ask_all({_name(each): each.check_ready for each in extensions})
        required = {_name(each) for each in extensions if not getattr(each, "optional_dependency", False)}
        missing = {name for name, answer in answers.items() if answer is not None}
        stopping = getattr(self.container, "stopping", False)
        ready = not stopping and not missing & required
        status = "stopping" if stopping else "not ready" if not ready else "degraded" if missing else "ready"
        checks = {name: answer or "ok" for name, answer in sorted(answers.items())}
        return _json(
            200 if ready else 503, {"status": status, "service": self.container.service_name, "checks": checks}
        )


class Probe:
    """One route, answered in the connection's own greenthread: it needs no worker, so it cannot starve."""

    def __init__(self, path: str, answer: Callable[[], Response]) -> None:
        self.path = path
        self.answer = answer

    def get_url_rule(self) -> Rule:
        """The route."""
        return Rule(self.path, methods=["GET"])

    def handle_request(self, request: Request) -> Response:
        """The answer."""
        return self.answer()


def ask_all(checks: Mapping[str, Callable[[], str | None]]) -> dict[str, str | None]:
    """What each check answers, all asked at once; one without an answer in CHECK_SECONDS is missing."""
    answers: dict[str, str | None] = {}

    def ask(name: str, check: Callable[[], str | None]) -> None:
        try:
            answers[name] = check()
        except Exception as error:
            log.exception("check_failed", check=name)
            answers[name] = type(error).__name__

    threads = [eventlet.spawn(ask, name, check) for name, check in checks.items()]
    with Timeout(CHECK_SECONDS, False):  # noqa: FBT003 - eventlet's way to say: just stop waiting
        for thread in threads:
            thread.wait()
    for thread in threads:
        thread.kill()
    return {name: answers.get(name, "no answer in time") for name in checks}


def _name(extension: Any) -> str:
    return getattr(extension, "attr_name", None) or type(extension).__name__


def _json(status: int, payload: Mapping[str, Any]) -> Response:
    return Response(wire.encode(payload), status, content_type="application/json")
