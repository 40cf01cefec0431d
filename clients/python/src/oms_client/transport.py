"""One request and its answer over HTTP, sent again where that is safe."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import requests
from requests.cookies import RequestsCookieJar
from requests.structures import CaseInsensitiveDict
from urllib3.exceptions import MaxRetryError, NewConnectionError

from oms_client.errors import NoAnswer, OmsError, UnexpectedAnswer, Untrusted, problem
from oms_client.reading import parse
from oms_client.retries import Clock, Retries, may_be_sent_again

Answered = TypeVar("Answered")

LOST: Final = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
"""What requests raises when there is no answer, or not all of it."""
LEAST_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Settings:
    """How the client behaves on the wire."""

    retries: Retries = field(default_factory=Retries)
    connect_seconds: float = 5.0
    answer_seconds: float = 10.0
    """How long one try waits for the next bytes of its answer."""
    silence_seconds: float = 45.0
    """The same for an event stream, whose heartbeats come more often than that."""
    verify: bool | str = True
    """Whether certificates are verified; or the file with the authorities that are trusted instead of the usual."""
    use_environment: bool = True
    """Whether a proxy that the environment names (``HTTPS_PROXY``) is used."""
    context: Callable[[], Mapping[str, str]] = dict
    """Asked before each request for further headers, such as ``traceparent`` or ``X-Request-Id``."""


@dataclass(frozen=True)
class Call:
    """A request. ``is_open`` needs no token; one that ``is_repeatable`` may be carried out twice without harm."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    is_open: bool = False
    is_repeatable: bool = False
    ends_at: float = 0.0
    """When, by the client's clock, no further try is made and no answer awaited."""

    @property
    def may_repeat(self) -> bool:
        """Whether the server does it once however often it is sent."""
        return self.is_repeatable or self.method == "GET" or "Idempotency-Key" in self.headers


@dataclass(frozen=True)
class Answer:
    """What a request came to."""

    status: int
    headers: Mapping[str, str]
    document: Any = field(repr=False)


class Transport:
    """Connections to one server; threads may share it."""

    def __init__(self, url: str, settings: Settings, clock: Clock) -> None:
        self.url = _checked(url)
        self.settings = settings
        self.clock = clock
        self.http = requests.Session()
        self.http.trust_env = settings.use_environment
        self.http.cookies = _NoCookies()
        self.http.headers["User-Agent"] = "oms-client/0.1"

    def send(self, call: Call, token: str | None) -> Answer:
        """The answer. Raises the Problem or the NoAnswer that the last try came to."""
        return self._persist(call, lambda left, headers: self._read(call, token, left, headers))

    def open(self, call: Call, token: str | None) -> requests.Response:
        """The answer with its body still to come: read it, and close it."""
        return self._persist(call, lambda left, headers: self._begin(call, token, left, headers, stream=True))

    def _persist(self, call: Call, attempt: Callable[[float, Mapping[str, str]], Answered | OmsError]) -> Answered:
        retries, failures = self.settings.retries, 0
        headers = CaseInsensitiveDict({"X-Request-Id": str(uuid4()), **self.settings.context(), **call.headers})
        while True:
            outcome = attempt(max(LEAST_SECONDS, call.ends_at - self.clock.now()), headers)
            if not isinstance(outcome, OmsError):
                return outcome
            failures += 1
            pause = retries.pause(failures, getattr(outcome, "retry_after", None))
            is_last = failures >= retries.attempts or self.clock.now() + pause >= call.ends_at
            if is_last or not may_be_sent_again(outcome, repeatable=call.may_repeat):
                raise outcome
            self.clock.sleep(pause)

    def _read(self, call: Call, token: str | None, left: float, headers: Mapping[str, str]) -> Answer | OmsError:
        response = self._begin(call, token, left, headers)
        if isinstance(response, OmsError):
            return response
        return Answer(response.status_code, response.headers, parse(response.content))

    def _begin(
        self, call: Call, token: str | None, left: float, headers: Mapping[str, str], *, stream: bool = False
    ) -> requests.Response | OmsError:
        """The response, if it is a good one. An error is answered and not raised, lest it keep the request alive."""
        settings = self.settings
        silence = settings.silence_seconds if stream else min(settings.answer_seconds, left)
        try:
            response = self.http.request(
                call.method,
                self.url + call.path,
                params=dict(call.query),
                data=call.content,
                headers={**headers, **({"Content-Type": "application/json"} if call.content is not None else {})},
                auth=_Bearer(token),
                timeout=(min(settings.connect_seconds, left), silence),
                verify=settings.verify,
                allow_redirects=False,
                stream=stream,
            )
        except LOST as error:
            return lost(call, error, headers["X-Request-Id"])
        return response if response.status_code in (200, 201, 204, 304) else _refusal(response)


class _Bearer(requests.auth.AuthBase):
    """Puts the token in its place. Without any such object requests would send what ``~/.netrc`` says."""

    def __init__(self, token: str | None) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class _NoCookies(RequestsCookieJar):
    """Stays empty: the API sets no cookies, and what stands between shall not follow anybody."""

    def set_cookie(self, *_args: Any, **_kwargs: Any) -> None:
        """Forget it."""


def lost(call: Call, error: Exception, request_id: str) -> NoAnswer:
    """What to raise for a request that got no whole answer."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    message = f"{call.method} {call.path}: no answer ({type(cause).__name__}: {cause}; request {request_id})"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Untrusted(message, request_id=request_id)
    return NoAnswer(message, uncertain=not _never_left(error), request_id=request_id)


def _never_left(error: Exception) -> bool:
    """Whether there was no connection to send anything over."""
    reason = error.args[0] if error.args else None
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def _refusal(response: requests.Response) -> OmsError:
    with response:
        try:
            document = parse(response.content)
        except (UnexpectedAnswer, *LOST):
            document = None
    if response.status_code < 400:
        return UnexpectedAnswer(f"An answer with status {response.status_code} was not expected.")
    return problem(response.status_code, document, response.headers)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("The URL has to begin with http:// or https:// and name a host.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("The URL must hold neither a name, a password, a query nor a fragment.")
    return url.rstrip("/")
