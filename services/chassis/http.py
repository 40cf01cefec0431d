"""HTTP for whoever knows Nameko: ``@http("POST", "/api/order")`` on a method that takes the request.

The method reads what it needs (``json_object``, ``idempotency_key``), answers with :func:`reply`, and raises one of the
six kinds or a Refusal for everything else. It runs in a worker with the request's id, bearer token and trace as context
data, so they travel with every RPC it makes.
"""

from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

from eventlet.event import Event
from nameko.web.handlers import HttpRequestHandler
from werkzeug.http import parse_options_header
from werkzeug.routing import Rule
from werkzeug.wrappers import Response

from services.chassis import wire
from services.chassis.container import EXPIRES_AT
from services.chassis.errors import ServiceError
from services.chassis.http_app import Request, problem
from services.chassis.http_body import parse_object
from services.chassis.http_server import HttpServer
from services.chassis.logs import get_logger
from services.chassis.problems import Refusal
from services.chassis.tags import entity_tag, names

__all__ = ["PUBLIC", "Refusal", "Request", "Response", "http", "idempotency_key", "json_object", "reply", "tagged"]

log = get_logger(__name__)

PUBLIC: Final = "public, no-cache"
"""A ``Cache-Control``, else ``no-store``: may be kept and must be asked about again, which an ETag makes cheap."""

LONGEST_KEY: Final = 255


class HttpEntrypoint(HttpRequestHandler):
    """Calls a method with the request and the path's values, and answers with what it returns or raises."""

    server = HttpServer()

    def __init__(self, method: str, url: str, **options: Any) -> None:
        super().__init__(method, url, **{"expected_exceptions": (ServiceError, Refusal), **options})

    def stop(self) -> None:
        """Return when every request that was accepted has its answer."""
        self.server.drain()
        super().stop()

    @property
    def seconds(self) -> float:
        """How long all the calls of one request may take together."""
        return float(self.container.config["RPC_DEADLINE_SECONDS"])

    def get_url_rule(self) -> Rule:
        """The route."""
        return Rule(self.url, methods=self.method.split(","))

    def handle_request(self, request: Request) -> Response:
        """The method's answer, or the problem document of its error. A bug was logged where it was raised."""
        if self.server.is_overloaded():
            raise Refusal(503, "overloaded", "Too many requests are waiting.", {"Retry-After": "1"})
        done = Event()
        try:
            self.container.spawn_worker(
                self,
                (request,),
                request.path_values,
                context_data={**request.context, EXPIRES_AT: monotonic() + self.seconds},
                handle_result=partial(self.handle_result, done),
            )
            response: Response = done.wait()
        except Exception as error:  # noqa: BLE001 - the edge: each has its status in the table of problems
            return problem(request, error)
        return response


http = HttpEntrypoint.decorator


def json_object(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object that was sent; ``{}`` for no body at all where it is optional.

    Raises Refusal 415 for another content type, 400 ``malformed_json`` for what is not one strict JSON object.
    """
    if optional and not request.body:
        return {}
    mimetype, options = parse_options_header(request.environ.get("CONTENT_TYPE"))
    if mimetype != "application/json" or options.get("charset", "utf-8").lower() != "utf-8":
        raise Refusal(415, "unsupported_media_type", "Send application/json in UTF-8.", {"Accept": "application/json"})
    if "HTTP_CONTENT_ENCODING" in request.environ:
        raise Refusal(415, "unsupported_media_type", "Send the body without a content encoding.")
    return parse_object(request.body)


def idempotency_key(request: Request) -> str | None:
    """The ``Idempotency-Key``, if there is one; raises Refusal 400 unless it is 1-255 printable ASCII characters."""
    key: str | None = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise Refusal(400, "bad_idempotency_key", "Idempotency-Key has 1 to 255 printable ASCII characters.")
    return key


def if_match(request: Request) -> dict[str, str]:
    """``{"if_match": ...}`` for a method that writes only over what the client knows; nothing when it does not say."""
    asked: str | None = request.environ.get("HTTP_IF_MATCH")
    return {} if asked is None else {"if_match": asked}


def reply(status: int, payload: object = None, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with this JSON, private to the caller; without a body where there is no payload."""
    if payload is None:
        return Response(status=status, headers=dict(headers or {}))
    return Response(wire.encode(payload), status, dict(headers or {}), content_type="application/json")


def tagged(
    request: Request, payload: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """As :func:`reply` with a strong ETag of the representation; 304 without a body when the client has it already."""
    response = reply(status, payload, headers)
    response.headers["ETag"] = entity_tag(response.get_data())
    return answered(request, response)


def answered(request: Request, response: Response) -> Response:
    """The response, or 304 without a body when its ETag names what the client has already."""
    asked = request.environ.get("HTTP_IF_NONE_MATCH")
    readable = response.status_code == 200 and request.method in ("GET", "HEAD")
    if asked and readable and names(asked, response.headers["ETag"], weakly=True):
        response.status_code = 304
        response.set_data(b"")
    return response
