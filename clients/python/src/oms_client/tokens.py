"""The caller's pair of tokens: renewed shortly before it expires, or when it is refused, by one thread at a time."""

from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from oms_client.errors import OmsError, Unauthenticated
from oms_client.models import Tokens
from oms_client.retries import Clock

MARGIN_SECONDS: Final = 30.0
REST_SECONDS: Final = 5.0
"""How long to leave it after a renewal ahead of time that failed."""


class Wallet:
    """Holds one pair of tokens. A refresh token is good once, so two renewals must never use the same one."""

    def __init__(self, refresh: Callable[[str], Tokens], clock: Clock) -> None:
        self.refresh = refresh
        self.clock = clock
        self.tokens: Tokens | None = None
        self.listener: Callable[[Tokens | None], None] | None = None
        self._lock = Lock()
        self._rests_until: datetime | None = None

    def keep(self, tokens: Tokens | None) -> None:
        """Use these from now on, and tell whoever wants to know."""
        self.tokens = tokens
        if self.listener:
            self.listener(tokens)

    def token(self) -> str | None:
        """The access token for the next request; None when nobody is logged in."""
        tokens, now = self.tokens, self.clock.today()
        if tokens is None:
            return None
        if now < tokens.expires_at - margin(tokens) or (self._rests_until and now < self._rests_until):
            return tokens.token
        try:
            return self.renew(tokens.token)
        except Unauthenticated:
            raise
        except OmsError:
            if now >= tokens.expires_at:
                raise
            self._rests_until = self.clock.today() + timedelta(seconds=REST_SECONDS)
            return tokens.token

    def renew(self, spent: str) -> str | None:
        """The token after the ``spent`` one, which another thread may have got already; None when there is none."""
        with self._lock:
            tokens = self.tokens
            if tokens is None:
                return None
            if tokens.token != spent:
                return tokens.token
            try:
                fresh = self.refresh(tokens.refresh_token)
            except Unauthenticated:
                self.keep(None)
                raise
            self.keep(fresh)
            return fresh.token


def margin(tokens: Tokens) -> timedelta:
    """How long before their end tokens are renewed."""
    return timedelta(seconds=min(MARGIN_SECONDS, tokens.expires_in / 4))
