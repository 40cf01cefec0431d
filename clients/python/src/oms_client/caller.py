"""One person who asks: with tokens that are renewed in time, page after page, and within a deadline."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, Self, TypeVar

import requests

from oms_client.errors import Unauthenticated, UnexpectedAnswer
from oms_client.models import Tokens
from oms_client.reading import read, write
from oms_client.retries import Clock
from oms_client.tokens import Wallet
from oms_client.transport import Answer, Call, Settings, Transport

Answered = TypeVar("Answered")

REFRESH_SECONDS: Final = 8.0
"""A refresh token that is sent again is merely refused within ten seconds, and later ends the login."""


class Caller:
    """One person at the API; threads may share it. Use it in a ``with`` block, or close it.

    With ``tokens`` somebody goes on who was logged in before; ``on_tokens`` is called with every new pair, to be kept.
    """

    def __init__(
        self,
        url: str,
        *,
        tokens: Tokens | None = None,
        on_tokens: Callable[[Tokens | None], None] | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.settings = settings or Settings()
        self.transport = Transport(url, self.settings, self.clock)
        self.wallet = Wallet(self._refresh, self.clock)
        self.wallet.tokens, self.wallet.listener = tokens, on_tokens

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transport.url!r})"

    def close(self) -> None:
        """Close the connections; whoever is logged in stays so."""
        self.transport.http.close()

    @property
    def tokens(self) -> Tokens | None:
        """The newest pair of tokens, if somebody is logged in."""
        return self.wallet.tokens

    def _ask(self, call: Call) -> Answer:
        return self._signed(call, self.transport.send)

    def _signed(self, call: Call, send: Callable[[Call, str | None], Answered]) -> Answered:
        """What ``send`` gets with the caller's token; where that is refused, with a renewed one, once."""
        call = replace(call, ends_at=self.clock.now() + self.settings.retries.deadline_seconds)
        token = None if call.is_open else self.wallet.token()
        try:
            return send(call, token)
        except Unauthenticated:
            renewed = self.wallet.renew(token) if token else None
            if not renewed or renewed == token:
                raise
        return send(call, renewed)

    def _open(self, path: str, last_id: str) -> requests.Response:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
        return self._signed(Call("GET", path, headers=headers), self.transport.open)

    def _enter(self, call: Call) -> Tokens:
        tokens = read(Tokens, self._ask(call).document)
        self.wallet.keep(tokens)
        return tokens

    def _refresh(self, refresh_token: str) -> Tokens:
        content = write({"refresh_token": refresh_token})
        ends_at = self.clock.now() + REFRESH_SECONDS
        call = Call("POST", "/api/auth/refresh", content=content, is_repeatable=True, ends_at=ends_at)
        return read(Tokens, self.transport.send(call, None).document)

    def _items(self, call: Call, member: str = "items") -> Iterator[Any]:
        """What the list holds on all its pages, each fetched when it is needed."""
        cursor: str | None = None
        while True:
            query = {**call.query, "cursor": cursor} if cursor else call.query
            document = self._ask(replace(call, query=query)).document
            if not isinstance(document, dict) or member not in document:
                raise UnexpectedAnswer(f"A list was expected in {member}.")
            yield from document[member]
            cursor = document.get("nextCursor")
            if not cursor:
                return
