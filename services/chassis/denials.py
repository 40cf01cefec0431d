"""Tokens that were taken back before their time: asked of Redis, and of their owner when Redis cannot say.

The truth lies with the service that denies tokens. Its copy in Redis counts only while the marker stands that the copy
is complete; without Redis or marker the owner is asked, so that an absent Redis makes things slower and never wrong.
What was denied while Redis was silent it may not know, though its marker outlived the silence: then a newer one counts.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any, Final
from uuid import UUID

from services.chassis.auth import DENIED_COMPLETE, Principal, denied_key
from services.chassis.cache import Link
from services.chassis.config import read, text
from services.chassis.errors import Unauthenticated, Unavailable
from services.chassis.provider import Provider
from services.chassis.tls import because

REMEMBERED_SECONDS: Final = 0.5
"""How long a token may still pass in this process after it was denied elsewhere."""

MOST_REMEMBERED: Final = 10_000


class Denials(Provider["DenialList"]):
    """Injects the process' :class:`DenialList`."""

    optional_dependency = True

    def setup(self) -> None:
        """Prepare the link to Redis; nothing connects before a token is checked."""
        self.link = Link(read(self.container.config, "REDIS_URL", text))
        self.denials = DenialList(self.link)

    def stop(self) -> None:
        """Close the link."""
        self.link.close()

    def check_ready(self) -> str | None:
        """What is missing: without Redis each token costs a call to its owner."""
        try:
            with self.link.open() as redis:
                redis.ping()
        except Unavailable:
            return because("Redis does not answer", self.link.distrust)
        return None

    def get_dependency(self, worker_ctx: Any) -> "DenialList":
        """The same list for every worker."""
        return self.denials


class DenialList:
    """Knows which tokens are denied, and remembers for half a second which are not."""

    def __init__(self, link: Link, clock: Callable[[], float] = monotonic) -> None:
        self.link = link
        self.clock = clock
        self.passed: dict[UUID, float] = {}
        self.was_silent = False
        self.doubted: object = None

    def admit(self, caller: Principal, ask_owner: Callable[[str], bool]) -> None:
        """Raise Unauthenticated unless ``caller`` has a valid token that is not denied.

        ``ask_owner`` says whether the token with this id is denied; what it raises passes through.
        """
        jti = caller.jti
        asked_at = self.clock()
        if asked_at - self.passed.get(jti, float("-inf")) < REMEMBERED_SECONDS:
            return
        denied = self._ask_copy(jti)
        if ask_owner(str(jti)) if denied is None else denied:
            self.passed.pop(jti, None)
            raise Unauthenticated("token_revoked", "The access token was revoked.")
        self._remember(jti, asked_at)

    def forget(self, caller: Principal) -> None:
        """Ask again for the caller's next request: its token was taken back through this process."""
        self.passed.pop(caller.jti, None)

    def _ask_copy(self, jti: UUID) -> bool | None:
        """Whether Redis knows the token as denied; None when it cannot say."""
        try:
            with self.link.open() as redis:
                denied, complete = redis.mget(denied_key(jti), DENIED_COMPLETE)
        except Unavailable:
            self.was_silent = True
            return None
        if self.was_silent:
            self.was_silent, self.doubted = False, complete
        if denied is not None:
            return True
        return None if complete in (None, self.doubted) else False

    def _remember(self, jti: UUID, asked_at: float) -> None:
        if len(self.passed) >= MOST_REMEMBERED:
            self.passed.clear()
        self.passed[jti] = asked_at
