from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from redis import Redis

from services.chassis.auth import DENIED_COMPLETE, Principal, denied_key
from services.chassis.cache import Link
from services.chassis.denials import DenialList
from services.chassis.errors import Unauthenticated, Unavailable


def a_principal() -> Principal:
    """Someone with a valid token."""
    return Principal(uuid4(), "customer", uuid4(), uuid4(), datetime.now(UTC) + timedelta(minutes=15))


class Owner:
    """Knows which tokens are denied, and how often it was asked."""

    def __init__(self, *denied: UUID) -> None:
        self.denied = {str(jti) for jti in denied}
        self.asked = 0

    def __call__(self, jti: str) -> bool:
        """Whether the token is denied."""
        self.asked += 1
        return jti in self.denied


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """The time it stands at."""
        return self.now


@pytest.fixture
def redis(redis_url: str) -> Redis:
    """The Redis of this test, empty."""
    return Redis.from_url(redis_url)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def denials(redis_url: str, clock: Clock) -> DenialList:
    """A list that asks this Redis."""
    return DenialList(Link(redis_url), clock)


class TestAdmit:
    """Whom the list lets in."""

    def test_asks_no_owner_while_the_copy_is_complete(self, denials: DenialList, redis: Redis) -> None:
        """The marker says that Redis knows every denial."""
        redis.set(DENIED_COMPLETE, "1")
        denied = a_principal()
        redis.set(denied_key(denied.jti), "1")
        owner = Owner()

        denials.admit(a_principal(), owner)
        with pytest.raises(Unauthenticated):
            denials.admit(denied, owner)

        assert owner.asked == 0

    def test_asks_the_owner_without_the_marker(self, denials: DenialList) -> None:
        """A flushed Redis knows nothing, which is not the same as nothing denied."""
        denied = a_principal()
        owner = Owner(denied.jti)

        denials.admit(a_principal(), owner)
        with pytest.raises(Unauthenticated):
            denials.admit(denied, owner)

        assert owner.asked == 2

    def test_asks_the_owner_without_redis(self, clock: Clock) -> None:
        """Slower, never wrong."""
        denied = a_principal()
        denials = DenialList(Link("redis://127.0.0.1:9/0"), clock)

        with pytest.raises(Unauthenticated):
            denials.admit(denied, Owner(denied.jti))

    def test_waits_for_a_newer_marker_after_redis_was_silent(self, denials: DenialList, redis: Redis) -> None:
        """One that outlived the silence does not know what was denied meanwhile."""
        redis.set(DENIED_COMPLETE, "before")
        here, nowhere = denials.link, Link("redis://127.0.0.1:9/0")
        denied = a_principal()
        owner = Owner(denied.jti)
        denials.admit(a_principal(), owner)

        denials.link = nowhere
        denials.admit(a_principal(), owner)
        denials.link = here

        for _ in range(2):
            with pytest.raises(Unauthenticated):
                denials.admit(denied, owner)
        redis.set(DENIED_COMPLETE, "after")
        denials.admit(a_principal(), owner)
        assert owner.asked == 3

    def test_lets_nobody_in_when_nobody_can_say(self, clock: Clock) -> None:
        """Neither Redis nor the owner: try again later."""
        denials = DenialList(Link("redis://127.0.0.1:9/0"), clock)

        with pytest.raises(Unavailable):
            denials.admit(a_principal(), no_answer())

    def test_asks_at_once_about_a_token_that_was_taken_back_here(self, denials: DenialList, redis: Redis) -> None:
        """Whoever logs out through this process is out with the next request."""
        caller = a_principal()
        redis.set(DENIED_COMPLETE, b"1")
        denials.admit(caller, Owner())

        redis.set(denied_key(caller.jti), b"1")
        denials.forget(caller)

        with pytest.raises(Unauthenticated):
            denials.admit(caller, Owner())

    def test_forgets_within_a_second_that_a_token_passed(self, denials: DenialList, redis: Redis, clock: Clock) -> None:
        """Denied elsewhere, the token ends here too."""
        redis.set(DENIED_COMPLETE, "1")
        caller = a_principal()
        denials.admit(caller, Owner())
        redis.set(denied_key(caller.jti), "1")

        denials.admit(caller, Owner())
        clock.now += 0.5

        with pytest.raises(Unauthenticated):
            denials.admit(caller, Owner())


def no_answer() -> Callable[[str], bool]:
    """An owner that is away."""

    def ask(jti: str) -> bool:
        raise Unavailable("users_away", "Users is away.")

    return ask
