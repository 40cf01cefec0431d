"""How often one client may ask: ``logins = RateLimit("login", "RATE_LOGIN")``, then ``self.logins.count(request)``.

Counted in Redis for all instances, each count one atomic script with its own end (the library ``limits``). Without
Redis the process counts by itself, so its clients meet the same limit, each instance on its own. Whoever is above it
gets 429 with ``Retry-After``; every answer of a limited route says how much is left, in the fields of
draft-ietf-httpapi-ratelimit-headers.

Nothing that identifies anybody stands in Redis: a key is a keyed hash.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b, sha256
from math import ceil
from typing import Any, Final, NamedTuple

from limits.storage import MemoryStorage, RedisStorage
from nameko.extensions import SharedExtension

from services.chassis.cache import PATIENT_SECONDS, Link
from services.chassis.client_address import TrustedProxies
from services.chassis.config import Rate, rate, read, text
from services.chassis.errors import Unauthenticated, Unavailable
from services.chassis.http_app import Request
from services.chassis.metrics import RATE_LIMITED
from services.chassis.problems import Refusal
from services.chassis.provider import Provider

DEARER: Final = 5
"""How many tries one counts for while the whole account is under attack."""

QUOTAS: Final = "oms.quotas"
"""Where a request's WSGI environment has what its limits have left."""


class Count(NamedTuple):
    """What was counted in a window that ends in so many seconds."""

    spent: int
    ends_in: int


class Tally:
    """Counts by key in windows that begin with their first count; in Redis, and here while that is away."""

    def __init__(self, link: Link, prefix: str) -> None:
        self.link = link
        self.shared = RedisStorage("redis://", connection_pool=link.redis.connection_pool, key_prefix=prefix)
        self.own = MemoryStorage()

    def add(self, key: str, seconds: int, amount: int) -> Count:
        """The count of this key with so many more, or fewer: a count that was not due may be given back."""
        try:
            with self.link.open():
                return self._add(self.shared, key, seconds, amount)
        except Unavailable:
            return self._add(self.own, key, seconds, amount)

    @staticmethod
    def _add(storage: RedisStorage | MemoryStorage, key: str, seconds: int, amount: int) -> Count:
        spent = storage.incr(key, seconds, amount) if amount else storage.get(key)
        left = ceil(storage.get_expiry(key) - time.time())
        return Count(spent, min(max(left, 1), seconds))


class Counters(SharedExtension):
    """What all limits of a service count with."""

    def setup(self) -> None:
        """Prepare the link; nothing connects before something is counted."""
        config = self.container.config
        self.link = Link(read(config, "REDIS_URL", text), PATIENT_SECONDS)  # a busy moment must not open a second count
        self.tally = Tally(self.link, f"{self.container.service_name}:rate")
        self.proxies = TrustedProxies.of(config)
        self.secret = sha256(read(config, "JWT_SECRET", text).encode()).digest()

    def stop(self) -> None:
        """Close the link."""
        self.link.close()

    def key(self, limit: str, *whose: str) -> str:
        """The key under which a limit counts for somebody: says nothing to whoever does not know the secret."""
        named = "\0".join(whose).encode("utf-8", "replace")
        return f"{limit}:{blake2b(named, key=self.secret, digest_size=16, person=b'oms-rate-limit').hexdigest()}"


@dataclass(frozen=True)
class Limit:
    """One limit for everybody it is counted for; without a rate there is none."""

    name: str
    rate: Rate | None
    counters: Counters

    def add(self, amount: int, *whose: str) -> Count | None:
        """The count with so many more; None where there is no limit."""
        if self.rate is None:
            return None
        return self.counters.tally.add(self.counters.key(self.name, *whose), self.rate.seconds, amount)

    def is_above(self, count: Count | None) -> bool:
        """Whether that is more than may be."""
        return self.rate is not None and count is not None and count.spent > self.rate.quota

    def tell(self, request: Request, count: Count | None) -> None:
        """Let the answer say how much is left."""
        if self.rate is None or count is None:
            return
        left = min(max(0, self.rate.quota - count.spent), self.rate.quota)
        quotas = request.environ.setdefault(QUOTAS, {})
        quotas[self.name] = (
            f'"{self.name}";q={self.rate.quota};w={self.rate.seconds}',
            f'"{self.name}";r={left};t={count.ends_in}',
        )
        policies, states = zip(*quotas.values(), strict=True)
        request.answer_headers.update({"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)})

    def refuse(self, request: Request, count: Count) -> Refusal:
        """What somebody hears who is above the limit."""
        self.tell(request, count)
        RATE_LIMITED.labels(self.name).inc()
        detail = f"Too many requests of this kind; try again in {count.ends_in} seconds."
        return Refusal(429, "rate_limited", detail, {"Retry-After": str(count.ends_in)})


class Requests:
    """Requests that are counted for whoever makes them."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit

    def count(self, request: Request, user_id: object = None) -> None:
        """Count one request of this user, or else of the address it came from; raises Refusal 429 above the limit."""
        whose = str(user_id) if user_id else self.limit.counters.proxies.client_of(request.environ)
        count = self.limit.add(1, whose)
        if count and self.limit.is_above(count):
            raise self.limit.refuse(request, count)
        self.limit.tell(request, count)


class Guesses:
    """Tries to prove who one is, of which only those that fail are counted: by account and address.

    So nobody but those behind the owner's own address can use up the owner's tries. The failures of an account from
    everywhere only make each try count for more; from a new address there is always one.
    """

    def __init__(self, limit: Limit, everywhere: Limit) -> None:
        self.limit = limit
        self.everywhere = everywhere

    @contextmanager
    def watch(self, request: Request, account: object) -> Iterator[None]:
        """Let the block try; raises Refusal 429 when this account had too many failures from this address.

        A try is taken before and given back unless it failed, so that many at once are no more than one by one.
        """
        if not isinstance(account, str):
            yield
            return
        name = account.strip().lower()
        whose = (name, self.limit.counters.proxies.client_of(request.environ))
        price = self._price(name)
        count = self.limit.add(price, *whose)
        if count and self.limit.is_above(count):
            self.limit.add(-price, *whose)
            raise self.limit.refuse(request, count)
        failed = False
        try:
            yield
        except Unauthenticated:
            failed = True
            self.everywhere.add(1, name)
            raise
        finally:
            self.limit.tell(request, count if failed else self.limit.add(-price, *whose))

    def _price(self, name: str) -> int:
        quota = self.limit.rate.quota if self.limit.rate else 1
        under_attack = self.everywhere.is_above(self.everywhere.add(0, name))
        return min(DEARER, quota) if under_attack else 1


class RateLimit(Provider[Requests]):
    """Injects the count of one kind of request; ``setting`` is a rate such as ``300/minute``, or 0."""

    counters = Counters()

    def __init__(self, name: str, setting: str) -> None:
        self.name = name
        self.setting = setting

    def setup(self) -> None:
        """Read the setting; a wrong one refuses to start."""
        self.requests = Requests(Limit(self.name, read(self.container.config, self.setting, rate), self.counters))

    def get_dependency(self, worker_ctx: Any) -> Requests:
        """The same count for every worker."""
        return self.requests


class GuessLimit(Provider[Guesses]):
    """Injects the count of failed tries; ``setting`` is for an account and address, ``everywhere`` for an account."""

    counters = Counters()

    def __init__(self, name: str, setting: str, everywhere: str) -> None:
        self.name = name
        self.setting = setting
        self.everywhere = everywhere

    def setup(self) -> None:
        """Read the settings; a wrong one refuses to start."""
        config = self.container.config
        self.guesses = Guesses(
            Limit(self.name, read(config, self.setting, rate), self.counters),
            Limit(f"{self.name}-everywhere", read(config, self.everywhere, rate), self.counters),
        )

    def get_dependency(self, worker_ctx: Any) -> Guesses:
        """The same count for every worker."""
        return self.guesses
