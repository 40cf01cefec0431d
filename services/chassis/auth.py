"""Who calls: access tokens as JWT, issued and verified as RFC 8725 and RFC 9068 say.

Every service verifies the token of each call itself, since a message on the broker is no proof of who sent it. One
algorithm, and every claim is required and checked. Neither a token nor a secret ever appears in an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import jwt

from services.chassis.errors import Forbidden, Unauthenticated
from services.chassis.provider import Provider

ROLES: Final = ("customer", "staff", "admin")
"""From least to most; each role may do what those before it may."""

ALGORITHM: Final = "HS256"
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105 - the type that RFC 9068 gives access tokens
AUTH_TOKEN: Final = "auth_token"  # noqa: S105 - a key
"""Where a worker's context has the bearer token of its caller."""

REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "role", "jti", "fam", "iat", "nbf", "exp")
LONGEST_TOKEN: Final = 2048
LONGEST_LIFETIME: Final = timedelta(days=1)
CLOCK_SKEW_SECONDS: Final = 5
"""How far the clocks of two services may differ; a token lives that much longer than it says."""

DENIED_COMPLETE: Final = "denied:complete"
"""While this key stands in Redis, a token without its :func:`denied_key` there is not denied."""


def denied_key(jti: UUID) -> str:
    """The key that stands in Redis while the token with this id is denied."""
    return f"denied:{jti}"


@dataclass(frozen=True)
class Principal:
    """A caller whose token was verified. ``family`` names the login that the token stems from."""

    user_id: UUID
    role: str
    jti: UUID
    family: UUID
    expires_at: datetime

    @property
    def is_staff(self) -> bool:
        """Whether the caller is staff or admin."""
        return self.may_act_as("staff")

    @property
    def is_admin(self) -> bool:
        """Whether the caller is admin."""
        return self.may_act_as("admin")

    def may_act_as(self, role: str) -> bool:
        """Whether the caller's role is this one or one above it."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def may_see(self, owner_id: UUID | None) -> bool:
        """Whether the caller may know of what belongs to this account: it is theirs, or they are staff."""
        return self.user_id == owner_id or self.is_staff

    def require(self, role: str) -> None:
        """Raise Forbidden unless the caller may act as ``role``."""
        if not self.may_act_as(role):
            raise Forbidden("role_required", f"This needs the role {role}.", {"role": role})


class Stranger(Principal):
    """Stands in for a caller without a valid token: whatever is asked of it raises Unauthenticated."""

    def __init__(self, refusal: Unauthenticated) -> None:
        object.__setattr__(self, "refusal", (refusal.code, refusal.detail))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unauthenticated(*self.__dict__["refusal"])

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"Stranger({self.__dict__['refusal'][0]!r})"


class Caller(Provider[Principal]):
    """Injects the verified caller of this RPC, or a :class:`Stranger` when there is none."""

    def get_dependency(self, worker_ctx: Any) -> Principal:
        """Who calls. Never raises: an entrypoint that asks nothing of the caller is open to anyone."""
        try:
            return verify_token(worker_ctx.data.get(AUTH_TOKEN), self.container.config)
        except Unauthenticated as refusal:
            return Stranger(refusal)


def issue_token(principal: Principal, issued_at: datetime, config: Mapping[str, Any]) -> str:
    """An access token that proves ``principal`` until ``principal.expires_at``."""
    claims = {
        "iss": config["JWT_ISSUER"],
        "aud": config["JWT_AUDIENCE"],
        "sub": str(principal.user_id),
        "role": principal.role,
        "jti": str(principal.jti),
        "fam": str(principal.family),
        "iat": issued_at,
        "nbf": issued_at,
        "exp": principal.expires_at,
    }
    return jwt.encode(claims, config["JWT_SECRET"], ALGORITHM, headers={"typ": TOKEN_TYPE})


def verify_token(token: object, config: Mapping[str, Any]) -> Principal:
    """Who the bearer token proves the caller to be.

    Raises Unauthenticated with the code token_missing, token_expired or, for everything else, token_invalid.
    """
    if not token:
        raise Unauthenticated("token_missing", "This needs an access token.")
    if not isinstance(token, str) or len(token) > LONGEST_TOKEN or not token.isascii():
        raise _invalid()
    try:
        return _principal(_decode(token, config))
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("token_expired", "The access token has expired.") from None
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
        raise _invalid() from None


def _invalid() -> Unauthenticated:
    return Unauthenticated("token_invalid", "The access token is not valid.")


def _decode(token: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The claims; a token signed with the previous secret counts while one is configured."""
    previous = config.get("JWT_SECRET_PREVIOUS")
    try:
        parts = _verify(token, config["JWT_SECRET"], config)
    except jwt.InvalidSignatureError:
        if not previous:
            raise
        parts = _verify(token, previous, config)
    if parts["header"].get("typ") != TOKEN_TYPE:
        raise jwt.InvalidTokenError
    claims: dict[str, Any] = parts["payload"]
    return claims


def _verify(token: str, secret: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return jwt.decode_complete(
        token,
        secret,
        algorithms=[ALGORITHM],
        audience=config["JWT_AUDIENCE"],
        issuer=config["JWT_ISSUER"],
        leeway=CLOCK_SKEW_SECONDS,
        options={"require": list(REQUIRED_CLAIMS), "strict_aud": True},
    )


def _principal(claims: Mapping[str, Any]) -> Principal:
    """The claims as a Principal; raises ValueError or TypeError when one is not what it should be."""
    issued_at, expires_at = (_instant(claims[name]) for name in ("iat", "exp"))
    if not timedelta(0) < expires_at - issued_at <= LONGEST_LIFETIME:
        raise ValueError("lifetime")
    if claims["role"] not in ROLES:
        raise ValueError("role")
    return Principal(
        user_id=_uuid(claims["sub"]),
        role=claims["role"],
        jti=_uuid(claims["jti"]),
        family=_uuid(claims["fam"]),
        expires_at=expires_at,
    )


def _uuid(claim: object) -> UUID:
    """A UUID written the one canonical way, so that one token has one id."""
    if not isinstance(claim, str) or str(UUID(claim)) != claim:
        raise ValueError("uuid")
    return UUID(claim)


def _instant(claim: object) -> datetime:
    if isinstance(claim, bool) or not isinstance(claim, (int, float)):
        raise TypeError("instant")
    return datetime.fromtimestamp(claim, UTC)
