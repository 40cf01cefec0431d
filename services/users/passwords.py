"""Passwords: hashed with argon2id beside the event loop, a few at a time.

A hash takes tens of milliseconds of CPU. In a native thread (argon2 releases the GIL) nothing else waits for it; how
many run at once and how many wait is bounded, so that a flood of logins is refused instead of stopping everything.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from eventlet import tpool
from eventlet.semaphore import Semaphore

from services.chassis.config import read, whole
from services.chassis.errors import Unavailable
from services.chassis.provider import Provider
from services.users.models import User, wrong_credentials

Answer = TypeVar("Answer")

DEFAULTS: Final = {"PASSWORD_MEMORY_KIB": 19_456, "PASSWORD_ROUNDS": 2, "PASSWORD_HASHERS": 2, "PASSWORD_WAITING": 32}
"""OWASP's first choice of argon2id: 19 MiB, two rounds, one lane."""

LONGEST_WAIT_SECONDS: Final = 3


class Passwords(Provider["PasswordDesk"]):
    """Injects the process' :class:`PasswordDesk`."""

    def setup(self) -> None:
        """Read the settings; raises ConfigurationError for a wrong one."""
        settings = {key: read({**DEFAULTS, **self.container.config}, key, whole) for key in DEFAULTS}
        self.desk = PasswordDesk(
            make_hasher(self.container.config),
            at_once=settings["PASSWORD_HASHERS"],
            waiting=settings["PASSWORD_WAITING"],
        )

    def get_dependency(self, worker_ctx: Any) -> "PasswordDesk":
        """The same desk for every worker."""
        return self.desk


def make_hasher(config: Mapping[str, Any]) -> PasswordHasher:
    """argon2id as configured."""
    settings = {**DEFAULTS, **config}
    return PasswordHasher(
        time_cost=read(settings, "PASSWORD_ROUNDS", whole),
        memory_cost=read(settings, "PASSWORD_MEMORY_KIB", whole),
        parallelism=1,
    )


@dataclass(frozen=True)
class Proof:
    """Whose password was proven, against which hash, and a better one where today's parameters give one."""

    user_id: UUID
    proven_hash: str
    better_hash: str | None


class PasswordDesk:
    """Makes and checks password hashes, as many at once and waiting as allowed."""

    def __init__(self, hasher: PasswordHasher, *, at_once: int, waiting: int) -> None:
        tpool.set_num_threads(at_once)  # a thread that has made a hash keeps its memory: 19 MiB in each of twenty
        self.hasher = hasher
        self.slots = Semaphore(at_once)
        self.room = at_once + waiting
        self.nobodys_hash = hasher.hash(secrets.token_hex())

    def hash(self, password: str) -> str:
        """The hash to keep. Raises Unavailable when too many wait."""
        return self._beside_the_loop(lambda: self.hasher.hash(password))

    def prove(self, password: str, user: User | None) -> Proof:
        """That the password is this account's.

        Raises the same Unauthenticated after the same work for a wrong password, a closed account and none at all;
        Unavailable when too many wait.
        """
        known = user.password_hash if user else self.nobodys_hash
        matches, better_hash = self._beside_the_loop(lambda: self._check(password, known))
        if not matches or user is None or not user.active:
            raise wrong_credentials()
        return Proof(user.id, known, better_hash)

    def _check(self, password: str, known: str) -> tuple[bool, str | None]:
        try:
            self.hasher.verify(known, password)
        except (VerificationError, InvalidHashError):
            return False, None
        return True, self.hasher.hash(password) if self.hasher.check_needs_rehash(known) else None

    def _beside_the_loop(self, work: Callable[[], Answer]) -> Answer:
        with self._place():
            answer: Answer = tpool.execute(work)
            return answer

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self.room <= 0:
            raise _busy()
        self.room -= 1
        try:
            if not self.slots.acquire(timeout=LONGEST_WAIT_SECONDS):
                raise _busy()
            try:
                yield
            finally:
                self.slots.release()
        finally:
            self.room += 1


def _busy() -> Unavailable:
    return Unavailable("busy", "Too many are logging in at this moment.", {"retry_after": 1})
