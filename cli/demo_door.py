"""A patient client of the gateway, for the demo: any one process may die at any moment, and nothing is done twice.

A request that was refused for the moment (429, 503, 504) or not answered at all is sent again until a deadline. That is
safe for what is only read, and for what carries an Idempotency-Key; whoever asks for anything else says what to look
at before it is asked again.
"""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

import requests

from cli.readiness import direct_session
from cli.servers.ports import LOOPBACK
from cli.trouble import Trouble

PATIENCE_SECONDS: Final = 90.0
ANSWER_SECONDS: Final = 15.0
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 3.0
FOR_THE_MOMENT: Final = frozenset({429, 502, 503, 504})

HERE: Final = frozenset({LOOPBACK, "localhost"})

Json = dict[str, Any]


class Answer:
    """What the gateway said in the end; ``uncertain`` when an earlier try was not answered and may have worked."""

    def __init__(self, response: requests.Response, *, uncertain: bool) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.uncertain = uncertain
        try:
            self.json: Json = response.json() if response.content else {}
        except ValueError:
            self.json = {"detail": response.text[:200]}

    @property
    def ok(self) -> bool:
        """Whether it is what was asked for."""
        return self.status < 400

    @property
    def code(self) -> str:
        """The problem's machine word."""
        return str(self.json.get("code", ""))

    @property
    def busy(self) -> bool:
        """Whether the same request may be answered a little later."""
        return self.status in FOR_THE_MOMENT or self.code == "idempotency_key_in_use"


class Door:
    """One person at the gateway."""

    def __init__(self, url: str, authority: str = "") -> None:
        self.url = url.rstrip("/")
        self.verify: str | bool = authority or True
        self.name = "somebody"
        self.email = ""
        self.password = ""
        self.http = direct_session() if urlsplit(url).hostname in HERE else requests.Session()
        self.http.headers["User-Agent"] = "oms-demo"

    def join(self, name: str) -> None:
        """Register; an account that a lost answer has made already is logged in to."""
        self.name, self.email = name, f"{name.lower()}.{secrets.token_hex(4)}@example.com"
        self.password = secrets.token_urlsafe(16)
        wish = {"email": self.email, "password": self.password, "firstName": name, "phone": "+4915112345678"}
        answer = self.ask("POST", "/api/auth/register", wish)
        if answer.code == "email_taken" and answer.uncertain:
            self.log_in(self.email, self.password)
        else:
            self._enter(answer)

    def log_in(self, email: str, password: str) -> None:
        """Log in."""
        self.email, self.password = email, password
        self._enter(self.ask("POST", "/api/auth/login", {"email": email, "password": password}))

    def _enter(self, answer: Answer) -> None:
        self.http.headers["Authorization"] = f"Bearer {good(answer)['token']}"

    def get(self, path: str) -> Json:
        """The document at that path."""
        return good(self.ask("GET", path))

    def post(self, path: str, body: Json) -> Answer:
        """What the first request with this wish came to, however often it had to be sent."""
        return self.ask("POST", path, body, key=str(uuid4()))

    def post_once(self, path: str, body: Json, find: Callable[[], Json | None]) -> Json:
        """Do what has no key: after a try without an answer, ``find`` looks whether it was done."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            answer = self.ask("POST", path, body, seconds=0)
            if not answer.busy:
                return good(answer)
            found = find()
            if found is not None:
                return found
            time.sleep(FIRST_PAUSE_SECONDS)
        raise Trouble(f"POST {path} was not answered within {PATIENCE_SECONDS:.0f} s.")

    def ask(
        self, method: str, path: str, body: Json | None = None, *, key: str = "", seconds: float = PATIENCE_SECONDS
    ) -> Answer:
        """The answer; the last busy one when there was no other in time. Raises Trouble when there was none at all."""
        deadline, pause, uncertain = time.monotonic() + seconds, FIRST_PAUSE_SECONDS, False
        headers = {"Idempotency-Key": key} if key else {}
        while True:
            try:
                answer = Answer(self._send(method, path, body, headers), uncertain=uncertain)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise Trouble(f"{self.url} is not trusted. Name its authority: --ca FILE") from error
                answer = None
                complaint = f"{self.url} does not answer ({type(error).__name__})."
            if answer and not answer.busy:
                return answer
            uncertain = True
            if time.monotonic() + pause > deadline:
                break
            time.sleep(min(LONGEST_PAUSE_SECONDS, max(pause, wish_of(answer))))
            pause = min(LONGEST_PAUSE_SECONDS, pause * 1.6)
        if answer is None and seconds:
            raise Trouble(f"{complaint} Is the cluster up? ./oms status tells.")
        return answer or Answer(no_answer(), uncertain=True)

    def _send(self, method: str, path: str, body: Json | None, headers: dict[str, str]) -> requests.Response:
        return self.http.request(
            method, self.url + path, json=body, headers=headers, timeout=ANSWER_SECONDS, verify=self.verify
        )


def no_answer() -> requests.Response:
    """What stands for an answer that never came."""
    response = requests.Response()
    response.status_code = requests.codes.gateway_timeout
    response._content = b""  # noqa: SLF001 - requests has no other way to make one
    return response


def wish_of(answer: Answer | None) -> float:
    """How many seconds the gateway asks to wait."""
    wish = answer.headers.get("Retry-After", "") if answer else ""
    return float(wish) if wish.isdigit() else 0.0


def good(answer: Answer) -> Json:
    """The document of a good answer; raises Trouble with what was wrong otherwise."""
    if not answer.ok:
        detail = answer.json.get("detail") or "no answer in time"
        raise Trouble(f"The gateway said {answer.status} {answer.code}: {detail}")
    return answer.json
