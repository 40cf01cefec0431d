"""Every query on userservice_db."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute

from services.chassis.errors import Conflict, NotFound
from services.chassis.repository import Repository
from services.users.models import Denial, DeniedToken, Loss, RefreshToken, Role, User

FIRST_ADMIN_LOCK: Final = 0x6F6D7302
"""The advisory lock of whoever makes the first administrator."""

PRUNED_AT_ONCE: Final = 1000
KEPT_AFTER_EXPIRY: Final = timedelta(minutes=1)
"""An expired token counts a little longer where a clock is late."""


class UserRepository(Repository):
    """Accounts."""

    def add(self, user: User) -> User:
        """Keep a new account; raises Conflict when its e-mail address has one already, in whatever case."""
        if not self.add_unless_taken(user):
            raise Conflict("email_taken", "There is an account with this e-mail address already.")
        return user

    def add_unless_taken(self, user: User) -> bool:
        """Whether the account was kept, as the first with its e-mail address."""
        columns = [column.name for column in User.__table__.columns if column.computed is None]
        row = {name: getattr(user, name) for name in columns}
        kept = insert(User).values(row).on_conflict_do_nothing(index_elements=[User.email_key]).returning(User.id)
        return self.session.execute(kept).one_or_none() is not None

    def find_by_email(self, email: str) -> User | None:
        """The account with this e-mail address, in whatever case it is written."""
        return self.session.scalars(select(User).where(User.email_key == email.lower())).one_or_none()

    def get(self, user_id: UUID) -> User:
        """The account; raises NotFound."""
        return _known(self.session.get(User, user_id))

    def get_for_update(self, user_id: UUID) -> User:
        """The account, held until the transaction ends; raises NotFound."""
        return _known(self.session.get(User, user_id, with_for_update=True, populate_existing=True))

    def get_with_admins(self, user_id: UUID) -> tuple[User, list[UUID]]:
        """The account and the ids of all active administrators, all held in one order; raises NotFound."""
        is_admin = (User.role == Role.ADMIN) & User.active
        found = self.session.scalars(
            select(User).where(is_admin | (User.id == user_id)).order_by(User.id).with_for_update()
        ).all()
        admins = [user.id for user in found if user.role == Role.ADMIN and user.active]
        return _known(next((user for user in found if user.id == user_id), None)), admins

    def await_first_admin(self) -> bool:
        """Whether there is an administrator, having waited for whoever may be making the first at this moment."""
        self.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": FIRST_ADMIN_LOCK})
        return bool(self.session.scalar(select(exists().where(User.role == Role.ADMIN))))


class TokenRepository(Repository):
    """Refresh tokens and denied access tokens. Methods that end something return the access tokens they denied."""

    def add(self, token: RefreshToken) -> None:
        """Keep a new refresh token; its account must be held."""
        self.session.add(token)

    def spend(self, token_hash: bytes, now: datetime) -> RefreshToken | None:
        """The refresh token, if this is the one time that it is good; its account is held from here on."""
        owner = select(RefreshToken.user_id).where(RefreshToken.token_hash == token_hash).scalar_subquery()
        self.session.execute(select(User.id).where(User.id == owner).with_for_update())
        return self.session.scalars(
            update(RefreshToken)
            .where(RefreshToken.token_hash == token_hash, RefreshToken.expires_at > now)
            .where(RefreshToken.spent_at.is_(None), RefreshToken.revoked_at.is_(None))
            .values(spent_at=now)
            .returning(RefreshToken)
        ).one_or_none()

    def end_copied(self, token_hash: bytes, now: datetime) -> list[Denial]:
        """End the family of a refresh token that could not be spent, when that means that it was copied."""
        token = self.session.get(RefreshToken, token_hash)
        return self.end_family(token.family, now) if token is not None and token.was_copied(now) else []

    def end_family(self, family: UUID, now: datetime) -> list[Denial]:
        """End everything that stems from one login; the account must be held."""
        self._revoke(RefreshToken.family == family, now)
        return self._deny(RefreshToken.family == family, now)

    def take(self, loss: Loss, user_id: UUID, now: datetime) -> list[Denial]:
        """Take these tokens from an account that is held."""
        if loss == Loss.NONE:
            return []
        if loss == Loss.ALL:
            self._revoke(RefreshToken.user_id == user_id, now)
        return self._deny(RefreshToken.user_id == user_id, now)

    def deny(self, denial: Denial) -> list[Denial]:
        """Deny one access token; again is no error."""
        row = {"jti": denial.jti, "expires_at": denial.expires_at}
        self.session.execute(insert(DeniedToken).values(row).on_conflict_do_nothing())
        return [denial]

    def is_denied(self, jti: UUID) -> bool:
        """Whether this access token counts no more."""
        return bool(self.session.scalar(select(exists().where(DeniedToken.jti == jti))))

    def list_denied(self, now: datetime) -> Sequence[Denial]:
        """Every denied access token that some clock may still take for alive."""
        rows = self.session.execute(
            select(DeniedToken.jti, DeniedToken.expires_at).where(DeniedToken.expires_at > now - KEPT_AFTER_EXPIRY)
        )
        return [Denial(*row) for row in rows]

    def prune(self, now: datetime) -> bool:
        """Forget some tokens that expired; whether there may be more. Several may prune at once."""
        before = now - KEPT_AFTER_EXPIRY
        denied = self._prune(DeniedToken.jti, DeniedToken.expires_at < before)
        # A refresh token outlives the access token beside it, whatever the lifetimes are set to.
        outlived = func.greatest(RefreshToken.expires_at, RefreshToken.access_expires_at) < before
        return PRUNED_AT_ONCE in {denied, self._prune(RefreshToken.token_hash, outlived)}

    def _prune(self, key: InstrumentedAttribute[UUID] | InstrumentedAttribute[bytes], old: ColumnElement[bool]) -> int:
        batch = select(key).where(old).limit(PRUNED_AT_ONCE).with_for_update(skip_locked=True)
        return len(self.session.execute(delete(key.class_).where(key.in_(batch)).returning(key)).all())

    def _revoke(self, which: ColumnElement[bool], now: datetime) -> None:
        self.session.execute(
            update(RefreshToken).where(which, RefreshToken.revoked_at.is_(None)).values(revoked_at=now)
        )

    def _deny(self, which: ColumnElement[bool], now: datetime) -> list[Denial]:
        alive = RefreshToken.access_expires_at > now - KEPT_AFTER_EXPIRY
        tokens = select(RefreshToken.access_jti, RefreshToken.access_expires_at).where(which, alive)
        denied = insert(DeniedToken).from_select(["jti", "expires_at"], tokens).on_conflict_do_nothing()
        rows = self.session.execute(denied.returning(DeniedToken.jti, DeniedToken.expires_at))
        return [Denial(*row) for row in rows]


def _known(user: User | None) -> User:
    if user is None:
        raise NotFound("user_unknown", "There is no such account.")
    return user
