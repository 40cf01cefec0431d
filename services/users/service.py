"""The entrypoints of users: accounts, logins, and which tokens are still good."""

from functools import partial
from typing import Any, Final
from uuid import UUID

from services.chassis.auth import Caller
from services.chassis.cache import Cache
from services.chassis.dead_letters import with_dead_letters
from services.chassis.errors import ServiceError, Unauthenticated
from services.chassis.probes import Probes
from services.chassis.rpc import rpc
from services.chassis.timer import timer
from services.chassis.work import UnitOfWork, Work
from services.users import denials
from services.users.models import Base, Denial, User, an_account, hash_of
from services.users.passwords import Passwords
from services.users.repository import TokenRepository, UserRepository
from services.users.schemas import (
    ACCOUNT_CHANGE,
    ACCOUNT_VIEW,
    CONTACT_VIEW,
    CREDENTIALS,
    REFRESH,
    REGISTRATION,
    SESSION_VIEW,
    USER_VIEW,
    read_token_id,
    read_user_id,
)
from services.users.seed import FirstAdministrator
from services.users.tokens import Tokens

USER_CACHE_SECONDS: Final = 60


def user_key(user_id: UUID) -> str:
    """Where the copy of an account stands."""
    return f"user:{user_id}"


@with_dead_letters
class UsersService:
    """Accounts and their tokens."""

    name = "users"

    begin = UnitOfWork(Base, publishes=False)
    caller = Caller()
    first_administrator = FirstAdministrator()
    cache = Cache()
    passwords = Passwords()
    tokens = Tokens()
    probes = Probes()

    @rpc(expected_exceptions=ServiceError)
    def register(self, body: dict[str, Any]) -> dict[str, Any]:
        """A new customer account and its first tokens. Raises Conflict when the e-mail address has an account."""
        account = REGISTRATION.read(body)
        password_hash = self.passwords.hash(account.pop("password"))
        with self.begin() as work:
            user = an_account(**account, password_hash=password_hash, now=work.now)
            UserRepository(work.session).add(user)
            return self._grant(work, user, "Welcome.")

    @rpc(expected_exceptions=ServiceError)
    def login(self, body: dict[str, Any]) -> dict[str, Any]:
        """Tokens for the account with this password. Every failure gets the same answer after the same work."""
        credentials = CREDENTIALS.read(body)
        with self.begin() as work:
            found = UserRepository(work.session).find_by_email(credentials["email"])
        proof = self.passwords.prove(credentials["password"], found)
        with self.begin() as work:
            user = UserRepository(work.session).get_for_update(proof.user_id)
            user.log_in(proof.proven_hash, proof.better_hash)
            return self._grant(work, user, "Logged in.")

    @rpc(expected_exceptions=ServiceError)
    def refresh(self, body: dict[str, Any]) -> dict[str, Any]:
        """The next pair of tokens. A refresh token is good once; one that was copied ends its whole family."""
        token_hash = hash_of(REFRESH.read(body)["refresh_token"])
        with self.begin() as work:
            tokens = TokenRepository(work.session)
            spent = tokens.spend(token_hash, work.now)
            if spent is not None:
                user = UserRepository(work.session).get(spent.user_id)
                return self._grant(work, user, "Refreshed.", spent.family)
            self._tell(work, tokens.end_copied(token_hash, work.now))
        raise Unauthenticated("refresh_token_invalid", "The refresh token is not valid any more: log in again.")

    @rpc(expected_exceptions=ServiceError)
    def logout(self) -> None:
        """End the caller's login: its access tokens are denied, its refresh tokens revoked. Again is no error."""
        caller = self.caller
        denial = Denial(caller.jti, caller.expires_at)
        with self.begin() as work:
            UserRepository(work.session).get_for_update(caller.user_id)
            tokens = TokenRepository(work.session)
            self._tell(work, [*tokens.deny(denial), *tokens.end_family(caller.family, work.now)])

    @rpc(expected_exceptions=ServiceError)
    def get_me(self) -> dict[str, Any]:
        """The caller's own account."""
        user_id = self.caller.user_id
        return self.cache.get_or_load(user_key(user_id), USER_CACHE_SECONDS, partial(self._show, user_id))

    @rpc(expected_exceptions=ServiceError)
    def change_user(self, user_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """The account with another role or state; only for admins. A closed account loses every token at once."""
        self.caller.require("admin")
        change = ACCOUNT_CHANGE.read(body)
        with self.begin() as work:
            user, admins = UserRepository(work.session).get_with_admins(read_user_id(user_id))
            loss = user.change(**change, admins=admins, now=work.now)
            self._tell(work, TokenRepository(work.session).take(loss, user.id, work.now))
        self.cache.invalidate(user_key(user.id))
        return ACCOUNT_VIEW.show(user)

    @rpc(expected_exceptions=ServiceError)
    def get_contact(self, user_id: str) -> dict[str, Any]:
        """Where mail for the account goes, closed ones too. Needs no token: notifications has none."""
        with self.begin() as work:
            return CONTACT_VIEW.show(UserRepository(work.session).get(read_user_id(user_id)))

    @rpc(expected_exceptions=ServiceError)
    def check_token(self, jti: str) -> dict[str, bool]:
        """Whether the access token with this id was denied: the truth, for when its copy in Redis cannot be asked."""
        with self.begin() as work:
            return {"denied": TokenRepository(work.session).is_denied(read_token_id(jti))}

    @timer(setting="PRUNE_SECONDS")
    def prune_tokens(self) -> None:
        """Forget tokens that expired."""
        while self._prune_some():
            pass

    @timer(setting="DENIED_RENEWAL_SECONDS")
    def renew_denials(self) -> None:
        """Renew the copy of the denied tokens, and the promise that it is complete."""
        with self.begin() as work:
            denied = TokenRepository(work.session).list_denied(work.now)
        denials.renew(self.cache, denied, work.now)

    def _prune_some(self) -> bool:
        with self.begin() as work:
            return TokenRepository(work.session).prune(work.now)

    def _grant(self, work: Work, user: User, message: str, family: UUID | None = None) -> dict[str, Any]:
        grant = self.tokens.grant(user, work.now, family)
        TokenRepository(work.session).add(grant.kept)
        return SESSION_VIEW.show(grant) | {"message": message}

    def _tell(self, work: Work, denied: list[Denial]) -> None:
        work.after_commit(partial(denials.tell, self.cache, denied, work.now))

    def _show(self, user_id: UUID) -> dict[str, Any]:
        with self.begin() as work:
            return USER_VIEW.show(UserRepository(work.session).get(user_id))
