"""The WSGI application between a connection and the handlers: routes, request ids, headers, CORS, log lines.

Whatever happens below, the client gets a problem document with a request id, and one line is logged: method, route
template, status and duration, never a query value, a body or a token.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from time import monotonic
from typing import Any, Final, Protocol
from urllib.parse import unquote_plus
from uuid import uuid4

from eventlet import wsgi
from eventlet.timeout import Timeout
from nameko.web.server import WsgiApp
from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import Map, RequestRedirect, Rule
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response

from services.chassis import http_body, metrics
from services.chassis.auth import AUTH_TOKEN
from services.chassis.logs import bound, get_logger
from services.chassis.problems import CONTENT_TYPE, Refusal, document, refusal_of
from services.chassis.tracing import CORRELATION, TRACEPARENT, sane_correlation_id, sane_traceparent

log = get_logger(__name__)

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Routes that are asked every few seconds and say nothing new."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_EXPOSED: Final = "ETag, Location, Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
_TAKEN: Final = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Last-Event-ID",
    "X-Request-Id",
)
_PREFLIGHT: Final = (
    ("Access-Control-Allow-Methods", "GET, HEAD, POST, PATCH"),
    ("Access-Control-Allow-Headers", ", ".join(_TAKEN)),
    ("Access-Control-Max-Age", "600"),
)


class Request(WerkzeugRequest):
    """A Werkzeug request that has read its body, knows its id and its bearer token."""

    path_values: Mapping[str, Any] = {}
    body: bytes = b""
    route: str = "unknown"
    """The template of the path, such as ``/api/order/<uuid:order_id>``."""

    @cached_property
    def request_id(self) -> str:
        """The client's ``X-Request-Id`` when it is a sane one, else a new one."""
        return sane_correlation_id(self.environ.get("HTTP_X_REQUEST_ID")) or str(uuid4())

    @cached_property
    def answer_headers(self) -> dict[str, str]:
        """Header fields that the answer gets whatever it will be, also when it is a refusal."""
        return {}

    @cached_property
    def bearer_token(self) -> str | None:
        """The token of ``Authorization: Bearer ...``, unchecked; None where there is none."""
        scheme, _, token = self.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            return None
        return token if _TOKEN.fullmatch(token) else "malformed"

    @property
    def context(self) -> dict[str, str]:
        """What travels with every RPC this request causes."""
        context = {CORRELATION: self.request_id}
        if self.bearer_token is not None:
            context[AUTH_TOKEN] = self.bearer_token
        if traceparent := sane_traceparent(self.environ.get("HTTP_TRACEPARENT")):
            context[TRACEPARENT] = traceparent
        return context

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; raises Refusal 400 for one that stands twice or is no text."""
        parameters: dict[str, str] = {}
        for pair in filter(None, self.environ.get("QUERY_STRING", "").split("&")):
            name, _, value = pair.partition("=")
            try:
                name, value = unquote_plus(name, errors="strict"), unquote_plus(value, errors="strict")
            except UnicodeDecodeError as error:
                raise Refusal(400, "malformed_query", "The query is not UTF-8.") from error
            if name in parameters or "\0" in pair or "%00" in pair:
                raise Refusal(400, "malformed_query", "A parameter stands twice or contains NUL.")
            parameters[name] = value
        return parameters


class RequestProvider(Protocol):
    """What answers the requests of one route."""

    def get_url_rule(self) -> Rule:
        """The route."""

    def handle_request(self, request: Request) -> Response:
        """The answer."""


def url_map(providers: Iterable[RequestProvider]) -> Map:
    """The routes, built once; no redirects, for a redirect is a page nobody wrote."""
    routes = Map(merge_slashes=False, redirect_defaults=False)
    for provider in providers:
        rule = provider.get_url_rule()
        rule.endpoint = provider
        routes.add(rule)
    routes.update()
    return routes


class App(WsgiApp):
    """The application of one server."""

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self.origins = frozenset(server.limits.origins)
        self.adapter = self.url_map.bind("oms")

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The answer's body, after its status and headers went to ``start_response``."""
        started = monotonic()
        request = Request(environ, populate_request=False, shallow=True)
        with bound(**{CORRELATION: request.request_id}):
            response = self._answer(request)
            self._finish(request, response)
            self._record(request, response.status_code, monotonic() - started)
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            if request.method == "OPTIONS" and self._is_preflight(request):
                return Response(status=204, headers=_PREFLIGHT)
            provider, rule = self._route(request)
            request.route = rule.rule
            self._receive(request)
            return provider.handle_request(request)  # type: ignore[no-any-return]
        except Refusal as refusal:
            return problem(request, refusal)
        except Exception as error:  # the edge: the client gets an answer all the same
            log.exception("http_request_failed", route=request.route)
            return problem(request, error)

    def _route(self, request: Request) -> tuple[Any, Rule]:
        try:
            rule, request.path_values = self.adapter.match(request.path, request.method, return_rule=True)
        except MethodNotAllowed as error:
            allowed = ", ".join(sorted(error.valid_methods or ()))
            raise Refusal(405, "method_not_allowed", f"Allowed here: {allowed}.", {"Allow": allowed}) from error
        except (NotFound, RequestRedirect) as error:
            raise Refusal(404, "not_found", "There is nothing at this path.") from error
        return rule.endpoint, rule

    def _receive(self, request: Request) -> None:
        source = request.environ["wsgi.input"]
        connection = request.environ["oms.connection"]
        if http_body.is_unread(source):
            try:
                with Timeout(self.server.limits.body_seconds, _body_too_slow()):
                    request.body = http_body.read_body(source, self.server.limits.body_bytes)
            except OSError as error:
                raise Refusal(400, "incomplete_body", "The body broke off.") from error
        connection.mark(wsgi.STATE_REQUEST)

    def _is_preflight(self, request: Request) -> bool:
        asked = "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in request.environ
        return asked and request.environ.get("HTTP_ORIGIN") in self.origins

    def _finish(self, request: Request, response: Response) -> None:
        headers = response.headers
        if response.status_code in (204, 304):
            del headers["Content-Type"]
        headers["X-Request-Id"] = request.request_id
        headers.update(request.answer_headers)
        for name, value in request.environ["oms.connection"].security_headers:
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        if self.origins:
            headers.add("Vary", "Origin")
            origin = request.environ.get("HTTP_ORIGIN")
            if origin in self.origins:
                headers["Access-Control-Allow-Origin"] = origin
                headers["Access-Control-Expose-Headers"] = _EXPOSED
        if http_body.is_unread(request.environ["wsgi.input"]):
            request.environ["oms.connection"].close_after_answer(unread=True)
        elif self.server.is_draining:
            request.environ["oms.connection"].close_after_answer()

    def _record(self, request: Request, status: int, seconds: float) -> None:
        method = request.method if request.method in METHODS else "other"
        metrics.HTTP_SECONDS.labels(method, request.route, str(status)).observe(seconds)
        write = log.debug if request.route in QUIET else log.info
        write("http_request", method=method, route=request.route, status=status, duration_ms=round(seconds * 1000, 2))


def _body_too_slow() -> Refusal:
    return Refusal(408, "body_too_slow", "The body took too long.")


def problem(request: Request, error: Exception) -> Response:
    """The problem document of an error as an answer to this request."""
    refusal = refusal_of(error, with_token=request.bearer_token is not None)
    instance = request.environ.get("RAW_PATH_INFO", request.path)
    body = document(refusal, instance=instance, request_id=request.request_id)
    return Response(body, refusal.status, refusal.headers, content_type=CONTENT_TYPE)
