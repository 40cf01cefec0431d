from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from typing import Any

import pytest
import requests
from requests.adapters import BaseAdapter

from oms_client import Client, Line, NoAnswer, Tokens, Unauthenticated, Unavailable
from tests.clients.ground import (
    LOST,
    URL,
    FakeClock,
    Script,
    a_client,
    an_order,
    body,
    granted,
    refused,
    said,
    slept,
    tokens,
)

ME = {"id": "6f6d7300-0000-5000-8000-000000000004", "email": "ada@example.com", "userName": "ada", "role": "customer"}
ME |= {"createdAt": "2026-01-02T03:04:05Z"}
NOBODY = {**ME, "firstName": None, "lastName": None, "phone": None}


def paths(script: Script) -> list[str]:
    """What was asked, without what is in front of every path."""
    return [str(request.url).removeprefix(f"{URL}/api/") for request in script.asked]


class TestRenewal:
    """Tokens are renewed before they expire, and when they are refused."""

    def test_is_not_needed_while_they_are_good(self) -> None:
        """Nothing but the request goes out."""
        script = Script(said(200, NOBODY))

        a_client(script, tokens=tokens()).me()

        assert script.headers("Authorization") == ["Bearer access-1"]

    def test_happens_shortly_before_they_expire(self) -> None:
        """The request goes out with the new one already; who wants to keep the pair is told."""
        script = Script(said(200, granted(2)), said(200, NOBODY))
        kept: list[Tokens | None] = []
        client = a_client(script, tokens=tokens())
        client.wallet.listener = kept.append

        client.clock.sleep(900 - 29)
        client.me()

        assert paths(script) == ["auth/refresh", "auth/me"]
        assert body(script.asked[0]) == {"refreshToken": "refresh-1"}
        assert script.headers("Authorization") == [None, "Bearer access-2"]
        assert kept == [client.tokens]
        assert client.tokens
        assert client.tokens.refresh_token == "refresh-2"

    def test_leaves_short_lives_most_of_their_time(self) -> None:
        """A token of two seconds is not renewed before each request."""
        script = Script(said(200, NOBODY))

        a_client(script, tokens=tokens(expires_in=2)).me()

        assert paths(script) == ["auth/me"]

    def test_happens_once_when_a_token_is_refused(self) -> None:
        """And the request is sent again, whatever it is: the refused one did nothing."""
        script = Script(refused(401), said(200, granted(2)), said(201, {"id": ME["id"], **LEDGER}))

        entry = a_client(script, tokens=tokens()).adjust_stock(tokens().user_id, 1, "found")

        assert entry.delta == 1
        assert script.headers("Authorization") == ["Bearer access-1", None, "Bearer access-2"]

    def test_does_not_go_round_in_circles(self) -> None:
        """A fresh token that is refused as well is not the token's fault."""
        script = Script(refused(401), said(200, granted(2)), refused(401))

        with pytest.raises(Unauthenticated):
            a_client(script, tokens=tokens()).me()

        assert script.outcomes == []

    def test_places_an_order_under_one_key(self) -> None:
        """Also when a token was refused between."""
        script = Script(refused(401), said(200, granted(2)), said(201, an_order()))

        a_client(script, tokens=tokens()).place_order([Line(tokens().user_id)])

        first, _, second = script.headers("Idempotency-Key")
        assert first == second

    def test_that_is_refused_ends_the_login(self) -> None:
        """The pair is thrown away, and not tried again."""
        script = Script(refused(401), refused(401, "refresh_token_invalid"), refused(401))
        kept: list[Tokens | None] = []
        client = a_client(script, tokens=tokens())
        client.wallet.listener = kept.append

        with pytest.raises(Unauthenticated) as raised:
            client.me()
        with pytest.raises(Unauthenticated):
            client.me()

        assert raised.value.code == "refresh_token_invalid"
        assert (client.tokens, kept) == (None, [None])
        assert paths(script) == ["auth/me", "auth/refresh", "auth/me"]

    def test_ahead_of_time_may_fail(self) -> None:
        """The old token is still good; the next try is left for later."""
        script = Script(*[refused(503)] * 6, said(200, NOBODY), said(200, NOBODY), said(200, granted(2)))
        script.outcomes.append(said(200, NOBODY))
        client = a_client(script, tokens=tokens())

        client.clock.sleep(900 - 29)
        client.me()
        client.me()
        client.clock.sleep(5)
        client.me()

        assert paths(script)[6:] == ["auth/me", "auth/me", "auth/refresh", "auth/me"]

    def test_that_fails_when_it_is_due_is_told(self) -> None:
        """There is no token left to go on with."""
        client = a_client(Script(*[refused(503)] * 6), tokens=tokens())

        client.clock.sleep(901)
        with pytest.raises(Unavailable):
            client.me()

        assert client.tokens

    def test_sends_a_refresh_token_again_only_for_a_moment(self) -> None:
        """After ten seconds a spent one would count as stolen."""
        client = a_client(Script(*[LOST] * 6), tokens=tokens())
        client.clock.sleep(901)

        with pytest.raises(NoAnswer):
            client.me()

        assert sum(slept(client)[1:]) < 8

    def test_is_nothing_for_who_is_not_logged_in(self) -> None:
        """401 is the answer then."""
        script = Script(refused(401))

        with pytest.raises(Unauthenticated):
            a_client(script).me()

        assert paths(script) == ["auth/me"]


LEDGER = {"kind": "adjust", "delta": 1, "onHandAfter": 1, "reservedAfter": 0, "reason": "found", "actor": "staff"}
LEDGER |= {"at": "2026-01-02T03:04:05Z"}


class Rotating(BaseAdapter):
    """A server that takes each refresh token once, and refuses the first access token to twelve at the same moment."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.together = Barrier(threads)
        self.lock = Lock()
        self.good = 1
        self.refreshes = 0

    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        """Its answer."""
        answer = self._refresh(request) if str(request.url).endswith("refresh") else self._me(request)
        answer.request, answer.url = request, str(request.url)
        return answer

    def _me(self, request: requests.PreparedRequest) -> requests.Response:
        if request.headers["Authorization"] == "Bearer access-1":
            self.together.wait(30)
            return refused(401, "token_expired")
        return said(200, NOBODY)

    def _refresh(self, request: requests.PreparedRequest) -> requests.Response:
        with self.lock:
            self.refreshes += 1
            if body(request)["refreshToken"] != f"refresh-{self.good}":
                return refused(401, "refresh_token_invalid")
            self.good += 1
            return said(200, granted(self.good))

    def close(self) -> None:
        """Nothing to close."""


class TestThreads:
    """One client serves many."""

    def test_renew_one_at_a_time(self) -> None:
        """Twelve whose token is refused at the same moment spend one refresh token."""
        server = Rotating(12)
        client = Client(URL, tokens=tokens(), clock=FakeClock())
        client.transport.http.mount("http://", server)

        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda _: client.me(), range(12)))

        assert len(found) == 12
        assert server.refreshes == 1


class TestLogin:
    """Whoever registers or logs in is somebody from then on."""

    def test_uses_the_tokens_it_gets(self) -> None:
        """Those of the last one."""
        script = Script(said(201, granted(1)), said(200, granted(2)), said(200, NOBODY))
        client = a_client(script)

        client.register("ada@example.com", "a-password", first_name="Ada")
        client.log_in("ada@example.com", "a-password")
        client.me()

        assert script.headers("Authorization") == [None, None, "Bearer access-2"]
        assert body(script.asked[0]) == {"email": "ada@example.com", "password": "a-password", "firstName": "Ada"}

    def test_ends_with_logging_out(self) -> None:
        """Again is no error."""
        script = Script(said(204), said(200, {"items": [], "nextCursor": None}))
        client = a_client(script, tokens=tokens())

        client.log_out()
        client.log_out()

        assert client.tokens is None
        assert list(client.products()) == []
        assert script.headers("Authorization") == ["Bearer access-1", None]
