"""What a login gives: an access token for a quarter of an hour and a refresh token for the next one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from services.chassis.auth import Principal, issue_token
from services.chassis.config import read, whole
from services.chassis.provider import Provider
from services.users.models import RefreshToken, User, hash_of, new_refresh_token


@dataclass(frozen=True)
class Grant:
    """A pair of tokens as its owner gets it, and what is kept of it."""

    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int
    user_id: UUID
    kept: RefreshToken = field(repr=False)
    token_type: str = "Bearer"  # noqa: S105 - the name of a scheme


class Tokens(Provider["TokenDesk"]):
    """Injects the :class:`TokenDesk`."""

    def setup(self) -> None:
        """Read the lifetimes; raises ConfigurationError for a wrong one."""
        self.desk = TokenDesk(self.container.config)

    def get_dependency(self, worker_ctx: Any) -> "TokenDesk":
        """The same desk for every worker."""
        return self.desk


class TokenDesk:
    """Issues pairs of tokens with the configured lifetimes."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.access_seconds = read(config, "ACCESS_TOKEN_SECONDS", whole)
        self.refresh_seconds = read(config, "REFRESH_TOKEN_SECONDS", whole)

    def grant(self, user: User, now: datetime, family: UUID | None = None) -> Grant:
        """A pair of tokens for the account, of this family or, for a login, of a new one."""
        now = now.replace(microsecond=0)
        principal = Principal(
            user_id=user.id,
            role=user.role,
            jti=uuid4(),
            family=family or uuid4(),
            expires_at=now + timedelta(seconds=self.access_seconds),
        )
        refresh_token = new_refresh_token()
        return Grant(
            token=issue_token(principal, now, self.config),
            refresh_token=refresh_token,
            expires_in=self.access_seconds,
            user_id=user.id,
            kept=RefreshToken(
                token_hash=hash_of(refresh_token),
                family=principal.family,
                user_id=user.id,
                access_jti=principal.jti,
                access_expires_at=principal.expires_at,
                issued_at=now,
                expires_at=now + timedelta(seconds=self.refresh_seconds),
            ),
        )
