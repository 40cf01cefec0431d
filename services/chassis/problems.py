"""Every refusal over HTTP is the same kind of document: ``application/problem+json`` (RFC 9457).

One table says which HTTP status each kind of error has; nothing else in the code knows. What is not in the table is a
bug: the caller learns the request id and nothing about the inside.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from nameko.exceptions import ContainerBeingKilled

from services.chassis import wire
from services.chassis.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    TimedOut,
    TooMany,
    Unauthenticated,
    Unavailable,
)

CONTENT_TYPE: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2

STATUS_OF_KIND: Final[Mapping[type[ServiceError], int]] = {
    NotFound: 404,
    TooMany: 429,
    Conflict: 409,
    InvalidInput: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    TimedOut: 504,
    Unavailable: 503,
}

STATUS_OF_CODE: Final[Mapping[str, int]] = {"precondition_failed": 412}
"""The conflict that HTTP itself has a status for."""

SECURITY_HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
"""On every answer: nothing here is a page, nothing here may be framed, sniffed or run."""

_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "instance", "code", "requestId"})


class Refusal(Exception):
    """A request that HTTP itself forbids: the status, a stable machine word, a sentence and further headers."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, code, detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.extra: Mapping[str, Any] = {}


def refusal_of(error: Exception, *, with_token: bool = False) -> Refusal:
    """What the caller is told about an error; ``with_token`` says whether the request carried a bearer token."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, ContainerBeingKilled):
        return Refusal(503, "stopping", "This instance is stopping.", _retry_after({}))
    if isinstance(error, ServiceError):
        refusal = Refusal(_status(error), error.code, error.detail, _headers(error, with_token=with_token))
        refusal.extra = {name: value for name, value in error.extra.items() if name not in _MEMBERS}
        return refusal
    return Refusal(500, "internal_error", "Something went wrong on our side. The request id helps us to find it.")


def document(refusal: Refusal, *, instance: str, request_id: str) -> bytes:
    """The problem document of a refusal; ``instance`` is the path without its query."""
    return wire.encode(
        {
            "type": f"urn:oms:problem:{refusal.code}",
            "title": refusal.code.replace("_", " ").capitalize(),
            "status": refusal.status,
            "detail": refusal.detail,
            "instance": instance,
            "code": refusal.code,
            "requestId": request_id,
            **{name: value for name, value in refusal.extra.items() if name != "retry_after"},
        }
    )


def status_line(status: int) -> str:
    """``404 Not Found``."""
    return f"{status} {HTTPStatus(status).phrase}"


def _status(error: ServiceError) -> int:
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next((STATUS_OF_KIND[kind] for kind in type(error).__mro__ if kind in STATUS_OF_KIND), 500)


def _headers(error: ServiceError, *, with_token: bool) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        # RFC 6750: the error attribute stands only where a token was presented
        return {"WWW-Authenticate": 'Bearer realm="oms", error="invalid_token"' if with_token else 'Bearer realm="oms"'}
    if isinstance(error, Unavailable) or "retry_after" in error.extra:
        return _retry_after(error.extra)
    return {}


def _retry_after(extra: Mapping[str, Any]) -> dict[str, str]:
    seconds = extra.get("retry_after")
    return {"Retry-After": str(seconds if isinstance(seconds, int) and seconds > 0 else RETRY_AFTER_SECONDS)}
