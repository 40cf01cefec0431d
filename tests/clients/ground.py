"""A server that answers by script and a clock that passes by sleeping: what a client does when things go wrong."""

import io
import json
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import requests
from requests.adapters import BaseAdapter
from requests.exceptions import ChunkedEncodingError

from oms_client import Client, Settings, Tokens
from oms_client.retries import Clock
from tests.support import lines

PASSWORD: Final = "correct horse battery staple"
URL: Final = "http://gateway.test"
Said = Exception | Callable[[requests.PreparedRequest], "Said"] | requests.Response
Json = dict[str, Any]

LOST: Final = requests.ConnectionError("Connection aborted.")
LATE: Final = requests.ReadTimeout("Read timed out.")
HALF: Final = ChunkedEncodingError("Connection broken.")
PRODUCT: Final = uuid4()
BEGINNING: Final = datetime.now(UTC)
"""When every fake clock starts, and the tokens of the tests are received."""


class FakeClock(Clock):
    """Time goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def now(self) -> float:
        """Seconds since the test began, and some."""
        return self.seconds

    def today(self) -> datetime:
        """A date that moves with them."""
        return BEGINNING + timedelta(seconds=self.seconds - 1000.0)

    def sleep(self, seconds: float) -> None:
        """Let them pass."""
        self.slept.append(seconds)
        self.seconds += seconds


class Mending(Clock):
    """A clock on which a line heals as soon as somebody waits."""

    def __init__(self, line: lines.Line) -> None:
        self.line = line

    def sleep(self, seconds: float) -> None:
        """Wait, with the line healed."""
        self.line.heal()
        super().sleep(seconds)


class Script(BaseAdapter):
    """Gives the scripted answers in turn, or raises them; keeps what was asked."""

    def __init__(self, *outcomes: Said) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.asked: list[requests.PreparedRequest] = []

    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        """The next answer."""
        self.asked.append(request)
        said: Said = self.outcomes.pop(0)
        while not isinstance(said, (Exception, requests.Response)):
            said = said(request)
        if isinstance(said, Exception):
            raise said
        said.request, said.url = request, str(request.url)
        return said

    def close(self) -> None:
        """Nothing to close."""

    def headers(self, name: str) -> list[str | None]:
        """What each request said in this header."""
        return [None if (said := request.headers.get(name)) is None else str(said) for request in self.asked]


def said(status: int, document: object = None, **headers: str) -> requests.Response:
    """An answer; a header ``Retry_After`` is sent as ``Retry-After``."""
    response = requests.Response()
    response.status_code = status
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    response.raw = io.BytesIO(b"" if document is None else json.dumps(document).encode())
    return response


def refused(status: int, code: str = "", **headers: str) -> requests.Response:
    """A problem document."""
    return said(status, {"status": status, "code": code, "detail": "So it is.", "requestId": "r-1"}, **headers)


def a_client(script: Script, *, tokens: Tokens | None = None, **settings: Any) -> Client:
    """A client of the scripted server, whose clock passes by sleeping."""
    client = Client(URL, tokens=tokens, settings=Settings(**settings), clock=FakeClock())
    client.transport.http.mount("http://", script)
    return client


def slept(client: Client) -> list[float]:
    """How long the client has slept each time."""
    assert isinstance(client.clock, FakeClock)
    return client.clock.slept


def an_email() -> str:
    """An address nobody has."""
    return f"{secrets.token_hex(8)}@example.com"


def tokens(number: int = 1, expires_in: int = 900) -> Tokens:
    """A pair of tokens."""
    pair = {"token": f"access-{number}", "refresh_token": f"refresh-{number}"}
    return Tokens(**pair, user_id=uuid4(), expires_in=expires_in, received_at=BEGINNING)


def granted(number: int, expires_in: int = 900) -> Json:
    """The answer that brings a pair of tokens."""
    pair = {"token": f"access-{number}", "refreshToken": f"refresh-{number}", "expiresIn": expires_in}
    return {**pair, "tokenType": "Bearer", "userId": str(uuid4()), "message": "Welcome."}


def an_order(**fields: object) -> Json:
    """An order as the API writes it."""
    item: Json = {"productId": str(uuid4()), "productName": "Lamp", "quantity": 2, "price": 34.90}
    order: Json = {"id": str(uuid4()), "userId": str(uuid4()), "status": "Pending", "statusReason": None}
    order |= {"paymentStatus": "Pending", "totalAmount": 69.8, "currency": "EUR", "shippingAddress": None}
    order |= {"createdAt": "2026-01-02T03:04:05.678Z", "updatedAt": "2026-01-02T03:04:05Z"}
    return {**order, "items": [item], "allowedActions": ["cancel"], **fields}


def body(request: requests.PreparedRequest) -> Mapping[str, Any]:
    """The JSON of a request."""
    document: Mapping[str, Any] = json.loads(request.body or b"{}")
    return document


PLACED: Final = an_order()
