"""Redis, which may vanish at any time: copies of what the databases know, and a strict door for who needs more.

Every use ends within :data:`DEADLINE_SECONDS`, also when Redis is frozen or its packets are dropped; after a failure
nobody asks again for :data:`REST_SECONDS`, then one does. A copy is never the only place that knows something. Who
cannot do without Redis has :data:`PATIENT_SECONDS`, so that a busy moment is not taken for an absence.
"""

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from itertools import islice
from typing import Any, Final, TypeVar, cast

import eventlet
from redis import Redis, RedisError, exceptions
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.retry import Retry

from services.chassis import tls, wire
from services.chassis.config import read, text
from services.chassis.errors import Unavailable
from services.chassis.logs import get_logger
from services.chassis.provider import Provider

Value = TypeVar("Value")

DEADLINE_SECONDS: Final = 0.1
PATIENT_SECONDS: Final = 1.0
REST_SECONDS: Final = 1.5
MOST_CONNECTIONS: Final = 256

TOMBSTONE: Final = b""
TOMBSTONE_SECONDS: Final = 10
"""How long an invalidated key takes no copy."""

LONGEST_LOAD_SECONDS: Final = TOMBSTONE_SECONDS / 2
"""What took longer to load is not kept: the tombstone that would refuse it may be gone."""

LONGEST_TTL_SECONDS: Final = 600
MOST_LOST: Final = 10_000
BATCH: Final = 500

log = get_logger(__name__)


class Cache(Provider["Copies"]):
    """Injects the service's :class:`Copies`: ``self.cache.get_or_load(key, ttl_seconds, load)``."""

    optional_dependency = True

    def setup(self) -> None:
        """Prepare the link; nothing connects before somebody asks."""
        url = read(self.container.config, "REDIS_URL", text)
        self.copies = Copies(Link(url), f"{self.container.service_name}:copy:", Link(url, PATIENT_SECONDS))

    def stop(self) -> None:
        """Close what is idle."""
        self.copies.close()

    def check_ready(self) -> str | None:
        """What is missing: without Redis a service is slower, not unready."""
        if self.copies.answers():
            return None
        return tls.because("Redis does not answer", self.copies.link.distrust)

    def get_dependency(self, worker_ctx: Any) -> "Copies":
        """The same copies for every worker."""
        return self.copies


class SecureConnection(SSLConnection):
    """A connection to ``rediss://`` for which the authorities are read once per process.

    redis-py reads all that the system knows for each connection anew: 24 ms in which nothing else is done.
    """

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        trust = _trust(self.ca_certs, self.certfile, self.keyfile, self.check_hostname, self.cert_reqs)
        return trust.wrap_socket(sock, server_hostname=self.host)


@cache
def _trust(authorities: Any, certificate: Any, key: Any, check_hostname: Any, verify_mode: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authorities)
    context.check_hostname = check_hostname
    context.verify_mode = verify_mode
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


class Link:
    """The way of one process to one Redis, which keeps nobody waiting.

    A Redis that was silent is asked by one greenthread at a time, and by everybody again once it has answered.
    """

    def __init__(
        self, url: str, deadline_seconds: float = DEADLINE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.deadline_seconds = deadline_seconds
        self.clock = clock
        self.is_up = True
        self.distrust = ""
        self.rests_until = 0.0
        secure = {"connection_class": SecureConnection} if url.startswith("rediss:") else {}
        # RESP2 without a driver's introduction: a new connection needs no round trip before the first command.
        self.redis: Redis = Redis.from_url(
            url,
            socket_timeout=deadline_seconds,
            socket_connect_timeout=deadline_seconds,
            retry=Retry(NoBackoff(), 0),
            max_connections=MOST_CONNECTIONS,
            protocol=2,
            driver_info=None,
            **secure,
        )

    @contextmanager
    def open(self) -> Iterator[Redis]:
        """A client for a few commands, all within the deadline; raises Unavailable when Redis does not oblige."""
        self._let_pass()
        began = self.clock()
        timeout = eventlet.Timeout(self.deadline_seconds)
        try:
            yield self.redis
        except (exceptions.ConnectionError, exceptions.TimeoutError, eventlet.Timeout) as error:
            if isinstance(error, eventlet.Timeout) and error is not timeout:
                raise
            self.distrust = tls.distrust(error)
            self._fell_silent(began)
            raise _away() from error
        except RedisError as error:
            raise _away() from error
        else:
            self._answered()
        finally:
            timeout.cancel()

    def close(self) -> None:
        """Close every connection."""
        self.redis.connection_pool.disconnect()

    def _let_pass(self) -> None:
        if self.is_up:
            return
        now = self.clock()
        if now < self.rests_until:
            raise _away()
        self.rests_until = now + REST_SECONDS

    def _fell_silent(self, began: float) -> None:
        # A timer that fires late means that this process was busy, which says nothing about Redis.
        if self.is_up and self.clock() - began > 2 * self.deadline_seconds:
            return
        if self.is_up:
            log.warning("redis_silent", asked_again_after=REST_SECONDS, reason=self.distrust or None)
            self.redis.connection_pool.disconnect(inuse_connections=False)  # the idle ones are as dead as this one
        self.is_up = False
        self.rests_until = self.clock() + REST_SECONDS

    def _answered(self) -> None:
        if not self.is_up:
            log.warning("redis_answers_again")
        self.is_up = True


class Copies:
    """One service's copies in Redis, under its own prefix.

    A copy may be as old as its time to live when the process that invalidates it dies, or cannot reach Redis while
    others can; otherwise an invalidated copy is never seen again, nor brought back by a slower reader.
    """

    def __init__(self, link: Link, prefix: str, patient: Link | None = None) -> None:
        self.link = link
        self.patient = patient or link
        self.prefix = prefix
        self.lost: dict[str, float] = {}

    def close(self) -> None:
        """Close every connection."""
        self.link.close()
        self.patient.close()

    def answers(self) -> bool:
        """Whether Redis answers now."""
        try:
            with self.link.open() as redis:
                redis.ping()
        except Unavailable:
            return False
        return True

    def required(self) -> AbstractContextManager[Redis]:
        """The bare client, without prefix, for who cannot do without: ``with self.cache.required() as redis: ...``.

        The block is for a few commands and nothing else, since all of it has to end within PATIENT_SECONDS. Raises
        Unavailable when Redis does not answer; what was asked may then have been done all the same.
        """
        return self.patient.open()

    def get_or_load(self, key: str, ttl_seconds: float, load: Callable[[], Value]) -> Value:
        """The copy under ``key``, or what ``load`` returns, which is then kept for at most ``ttl_seconds``.

        Plain JSON values only. Call it outside a transaction; whatever ``load`` raises passes through.
        """
        held = self._find(key)
        if held:
            try:
                return cast("Value", wire.decode(held))
            except ValueError:
                log.warning("copy_unreadable", prefix=self.prefix)
                self.invalidate(key)
        began = self.link.clock()
        value = load()
        if held is None and self.link.clock() - began < LONGEST_LOAD_SECONDS:
            self._fill(key, min(ttl_seconds, LONGEST_TTL_SECONDS), wire.encode(value))
        return value

    def invalidate(self, *keys: str) -> None:
        """Forget the copies, after the commit that outdated them. Never fails: what Redis missed is told again."""
        until = self.link.clock() + LONGEST_TTL_SECONDS
        mending = bool(self.lost)
        self.lost.update((self.prefix + key, until) for key in keys)
        if not self._bury_lost() and not mending:
            eventlet.spawn_n(self._mend)

    def _find(self, key: str) -> bytes | None:
        """The copy, TOMBSTONE where none may be kept, None where there is none."""
        if not self._bury_lost():
            return TOMBSTONE
        try:
            with self.link.open() as redis:
                return cast("bytes | None", redis.get(self.prefix + key))
        except Unavailable:
            return TOMBSTONE

    def _fill(self, key: str, ttl_seconds: float, copy: bytes) -> None:
        try:
            with self.link.open() as redis:
                redis.set(self.prefix + key, copy, px=max(1, int(ttl_seconds * 1000)), nx=True)
        except Unavailable:
            log.debug("copy_not_kept", prefix=self.prefix)

    def _bury_lost(self) -> bool:
        """Whether Redis knows of every invalidation of this process."""
        try:
            while self.lost:
                self._bury(dict(islice(self.lost.items(), BATCH)))
        except Unavailable:
            self._forget_old()
            return False
        return True

    def _bury(self, lost: dict[str, float]) -> None:
        with self.link.open() as redis, redis.pipeline(transaction=False) as pipeline:
            pipeline.delete(*lost)  # a Redis that is full takes no tombstone, but it still forgets
            for name in lost:
                pipeline.set(name, TOMBSTONE, ex=TOMBSTONE_SECONDS)
            pipeline.execute()
        for name, until in lost.items():
            if self.lost.get(name) == until:  # not invalidated again meanwhile
                del self.lost[name]

    def _forget_old(self) -> None:
        """Drop what no copy can outlive, and the oldest when there are too many."""
        now = self.link.clock()
        old = [name for name, until in self.lost.items() if until < now]
        surplus = list(self.lost)[: max(0, len(self.lost) - MOST_LOST)]
        for name in {*old, *surplus}:
            self.lost.pop(name, None)

    def _mend(self) -> None:
        while self.lost:
            eventlet.sleep(REST_SECONDS)
            self._bury_lost()


def _away() -> Unavailable:
    return Unavailable("redis_away", "Redis does not answer.", {"retry_after": 1})
