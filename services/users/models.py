"""Accounts and the tokens they hold, and the rules their rows obey.

A login begins a family of refresh tokens. Each is spent once, for the next one; a spent one that comes back means that
somebody copied it, and ends the family. Whoever changes an account's tokens holds the account's row, so that no token
is born while its family ends.
"""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, Computed, DateTime, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.chassis.errors import Conflict, Unauthenticated

HARMLESS_REPEAT: Final = timedelta(seconds=10)
"""A refresh token that comes again so soon was sent twice by its owner, not stolen."""

REFRESH_TOKEN_BYTES: Final = 32


class Base(DeclarativeBase):
    """Everything in userservice_db."""


class Role(StrEnum):
    """What an account may do, from least to most."""

    CUSTOMER = "customer"
    STAFF = "staff"
    ADMIN = "admin"


class Loss(StrEnum):
    """Which of its tokens an account loses by a change."""

    NONE = "none"
    ACCESS = "access"
    ALL = "all"


@dataclass(frozen=True)
class Denial:
    """An access token that counts no more, until it would have expired anyway."""

    jti: UUID
    expires_at: datetime


class User(Base):
    """An account. ``email`` stands as its owner wrote it; ``email_key`` is what makes it unique."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(Text)
    email_key: Mapped[str] = mapped_column(Text, Computed('lower(email COLLATE "C")', persisted=True))
    first_name: Mapped[str | None] = mapped_column(Text)
    last_name: Mapped[str | None] = mapped_column(Text)
    phone: Mapped[str | None] = mapped_column(Text)
    password_hash: Mapped[str] = mapped_column(Text)
    role: Mapped[str] = mapped_column(Text)
    active: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        UniqueConstraint("email_key", name="users_email_key"),
        Index("users_admins", "id", postgresql_where=text("role = 'admin' AND active")),
        CheckConstraint("role IN ('customer', 'staff', 'admin')", "users_role"),
        CheckConstraint("email ~ '^[!-~]+@[!-~]+$' AND length(email) <= 254", "users_email"),
        CheckConstraint("phone ~ '^[+][1-9][0-9]{6,14}$'", "users_phone"),
    )

    @property
    def user_name(self) -> str:
        """The name an account logs in with."""
        return self.email

    def log_in(self, proven_hash: str, better_hash: str | None) -> None:
        """Accept a password that was proven against ``proven_hash``, and keep it as ``better_hash`` when there is one.

        Raises Unauthenticated when the account was closed while the proof took its time.
        """
        if not self.active:
            raise wrong_credentials()
        if better_hash and self.password_hash == proven_hash:
            self.password_hash = better_hash

    def change(self, *, role: str | None, active: bool | None, admins: Collection[UUID], now: datetime) -> Loss:
        """Give the account this role and state, where given; says which of its tokens it loses by that.

        ``admins`` are the ids of all active ones. Raises Conflict when none would be left.
        """
        role = self.role if role is None else Role(role)
        active = self.active if active is None else active
        if (role, active) == (self.role, self.active):
            return Loss.NONE
        if set(admins) == {self.id} and not (active and role == Role.ADMIN):
            raise Conflict("last_admin", "This is the last active administrator.")
        loss = Loss.ACCESS if active else Loss.ALL
        self.role, self.active, self.updated_at = Role(role), active, now
        return loss


class RefreshToken(Base):
    """A refresh token, known by its hash only, and the access token that was issued beside it."""

    __tablename__ = "refresh_tokens"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    family: Mapped[UUID]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    access_jti: Mapped[UUID]
    access_expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    issued_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    spent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        Index("refresh_tokens_family", "family"),
        Index("refresh_tokens_user_id", "user_id"),
        Index("refresh_tokens_expires_at", "expires_at"),
        CheckConstraint("length(token_hash) = 32", "refresh_tokens_hash"),
        CheckConstraint("expires_at > issued_at", "refresh_tokens_lifetime"),
    )

    def was_copied(self, now: datetime) -> bool:
        """Whether its coming back means that two hold it: spent, too long ago for a double click, family alive."""
        return self.spent_at is not None and self.revoked_at is None and now - self.spent_at > HARMLESS_REPEAT


class DeniedToken(Base):
    """An access token that counts no more although it has not expired."""

    __tablename__ = "denied_tokens"

    jti: Mapped[UUID] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index("denied_tokens_expires_at", "expires_at"),)


def an_account(  # noqa: PLR0913 - an account has that many properties
    *,
    email: str,
    password_hash: str,
    now: datetime,
    role: Role = Role.CUSTOMER,
    first_name: str | None = None,
    last_name: str | None = None,
    phone: str | None = None,
) -> User:
    """A new, active account."""
    return User(
        id=uuid4(),
        email=email,
        first_name=first_name,
        last_name=last_name,
        phone=phone,
        password_hash=password_hash,
        role=role,
        active=True,
        created_at=now,
        updated_at=now,
    )


def wrong_credentials() -> Unauthenticated:
    """The one answer to every login that fails, whatever the reason."""
    return Unauthenticated("invalid_credentials", "The e-mail address or the password is wrong.")


def new_refresh_token() -> str:
    """A token of 256 random bits, to be shown once."""
    return secrets.token_urlsafe(REFRESH_TOKEN_BYTES)


def hash_of(refresh_token: str) -> bytes:
    """What is kept of a refresh token; it has too many random bits to need salt or a slow hash."""
    return hashlib.sha256(refresh_token.encode()).digest()
