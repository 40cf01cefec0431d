from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.chassis.errors import Conflict, Unauthenticated
from services.users.models import (
    HARMLESS_REPEAT,
    Loss,
    RefreshToken,
    Role,
    User,
    an_account,
    hash_of,
    new_refresh_token,
)

NOW = datetime(2026, 7, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def an_account_with(role: Role = Role.CUSTOMER, *, active: bool = True) -> User:
    """An account of this role and state."""
    user = an_account(email="ann@example.com", password_hash="a hash", role=role, now=NOW)
    user.active = active
    return user


class TestUser:
    """An account."""

    @pytest.mark.parametrize(
        ("before", "change", "loss"),
        [
            (("customer", True), {"role": "staff"}, Loss.ACCESS),
            (("customer", True), {"active": False}, Loss.ALL),
            (("customer", True), {"role": "staff", "active": False}, Loss.ALL),
            (("customer", False), {"active": True}, Loss.ACCESS),
            (("customer", False), {"role": "staff"}, Loss.ALL),
            (("customer", True), {}, Loss.NONE),
            (("staff", False), {"role": "staff", "active": False}, Loss.NONE),
        ],
    )
    def test_loses_the_tokens_that_say_what_is_no_longer_so(
        self, before: tuple[str, bool], change: dict[str, Any], loss: Loss
    ) -> None:
        """A role stands in access tokens; a closed account has none at all."""
        user = an_account_with(Role(before[0]), active=before[1])

        assert user.change(**{"role": None, "active": None} | change, admins=[uuid4()], now=LATER) == loss
        assert user.role == change.get("role", before[0])
        assert user.active == change.get("active", before[1])
        assert user.updated_at == (NOW if loss == Loss.NONE else LATER)

    @pytest.mark.parametrize("change", [{"role": "staff"}, {"active": False}])
    def test_cannot_be_the_last_administrator_to_go(self, change: dict[str, Any]) -> None:
        """With another one it may."""
        user = an_account_with(Role.ADMIN)

        with pytest.raises(Conflict):
            user.change(**{"role": None, "active": None} | change, admins=[user.id], now=LATER)
        assert (user.role, user.active) == ("admin", True)
        assert user.change(**{"role": None, "active": None} | change, admins=[user.id, uuid4()], now=LATER)

    def test_logs_in_while_it_is_open(self) -> None:
        """Closed while the password was being checked: as wrong as any."""
        with pytest.raises(Unauthenticated):
            an_account_with(active=False).log_in("a hash", None)

    def test_keeps_a_better_hash_of_the_same_password_only(self) -> None:
        """Not over one that was set meanwhile."""
        user = an_account_with()

        user.log_in("a hash", "a better hash")
        user.log_in("a hash", "too late")

        assert user.password_hash == "a better hash"


class TestRefreshToken:
    """A refresh token that comes back."""

    @pytest.mark.parametrize(
        ("spent", "revoked", "copied"),
        [
            (None, None, False),
            (timedelta(0), None, False),
            (HARMLESS_REPEAT, None, False),
            (HARMLESS_REPEAT + timedelta(seconds=1), None, True),
            (timedelta(days=1), timedelta(0), False),
        ],
    )
    def test_was_copied_when_spent_long_ago(
        self,
        spent: timedelta | None,
        revoked: timedelta | None,
        copied: bool,  # noqa: FBT001 - a parameter
    ) -> None:
        """Not when it was just spent, nor when its family has ended already."""
        token = RefreshToken(spent_at=spent and NOW - spent, revoked_at=None if revoked is None else NOW - revoked)
        token.spent_at = None if spent is None else NOW - spent

        assert token.was_copied(NOW) is copied

    def test_is_256_random_bits(self) -> None:
        """And is kept as 32 bytes that say nothing."""
        tokens = {new_refresh_token() for _ in range(100)}

        assert len(tokens) == 100
        assert {len(token) for token in tokens} == {43}
        assert {len(hash_of(token)) for token in tokens} == {32}
