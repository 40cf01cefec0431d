"""What can go wrong, one tree: whatever the client raises of its own is an :class:`OmsError`.

No message holds a token, a password or a body; the server's own words and the request's id are what a person needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final


class OmsError(Exception):
    """Anything that the client raises."""


class UnexpectedAnswer(OmsError):
    """An answer that this API does not give: something else listens there, or the API has changed."""


class NoAnswer(OmsError):
    """No answer, or only part of one. ``uncertain`` says whether the request may have been carried out all the same."""

    def __init__(self, message: str, *, uncertain: bool = False, request_id: str = "") -> None:
        super().__init__(message)
        self.uncertain = uncertain
        self.request_id = request_id


class Untrusted(NoAnswer):
    """The server's certificate could not be verified. Nothing was sent."""


class NotReached(OmsError):
    """The order is not where it was awaited to be: too late, or it took another way. ``order`` is its last state."""

    def __init__(self, message: str, order: Any) -> None:
        super().__init__(message, order)
        self.order = order

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of the request."""

    pointer: str
    detail: str


class Problem(OmsError):
    """A refusal in the server's own words (RFC 9457): ``code`` is stable, ``detail`` is for a person."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        super().__init__(status, document, retry_after)
        self.status = status
        self.code = str(document.get("code") or f"http_{status}")
        self.detail = str(document.get("detail") or "")
        self.request_id = str(document.get("requestId") or "")
        self.errors = tuple(_field_errors(document.get("errors")))
        self.retry_after = retry_after
        """After how many seconds the server wants to be asked again; None when it does not say."""
        self.extra = {name: value for name, value in document.items() if name not in _MEMBERS}
        """Whatever else the document says, such as the ``allowed`` statuses of a 409."""

    def __str__(self) -> str:
        fields = "".join(f"; {error.pointer}: {error.detail}" for error in self.errors)
        return f"{self.status} {self.code}: {self.detail}{fields} (request {self.request_id or 'unknown'})"


class BadRequest(Problem):
    """400: the request is malformed."""


class Unauthenticated(Problem):
    """401: no token, or none that is still good; log in."""


class Forbidden(Problem):
    """403: the caller's role is not enough."""


class NotFound(Problem):
    """404: there is no such thing, or it is somebody else's."""


class Conflict(Problem):
    """409: not in this state."""


class PreconditionFailed(Problem):
    """412: it has changed since the ETag was seen."""


class InvalidInput(Problem):
    """422: ``errors`` lists every field that is wrong."""


class TooManyRequests(Problem):
    """429: nothing was done; ``retry_after`` says when to come again."""


class ServerFault(Problem):
    """5xx: the server's own trouble."""


class Unavailable(ServerFault):
    """503: something needed is away. The request may have been carried out."""


class TimedOut(ServerFault):
    """504: a service did not answer in time. The request may have been carried out."""


_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "instance", "code", "requestId", "errors"})
_KINDS: Final[Mapping[int, type[Problem]]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    412: PreconditionFailed,
    422: InvalidInput,
    429: TooManyRequests,
    503: Unavailable,
    504: TimedOut,
}


def problem(status: int, document: object, headers: Mapping[str, str]) -> Problem:
    """The exception for a refusal; whatever stands between may answer with something else than a problem document."""
    kind = _KINDS.get(status) or (ServerFault if status >= 500 else Problem)
    said = dict(document) if isinstance(document, Mapping) else {}
    said.setdefault("requestId", headers.get("X-Request-Id"))
    return kind(status, said, seconds_of(headers.get("Retry-After")))


def seconds_of(retry_after: str | None) -> float | None:
    """The seconds that a ``Retry-After`` asks for, written as a number or as a date; None for anything else."""
    if not retry_after:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        wanted = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (wanted.replace(tzinfo=wanted.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _field_errors(listed: object) -> list[FieldError]:
    entries = listed if isinstance(listed, list) else []
    return [
        FieldError(str(entry.get("pointer", "")), str(entry.get("detail", "")))
        for entry in entries
        if isinstance(entry, Mapping)
    ]
