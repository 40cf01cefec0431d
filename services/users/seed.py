"""The first administrator, from configuration and never from a request.

The service makes it when it starts with ``ADMIN_EMAIL`` and ``ADMIN_PASSWORD``; ``python -m services.users.seed`` makes
it in the database of ``DATABASE_URL`` from the same two variables. Where there is an administrator already nothing
changes, and any number may run at once.
"""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import eventlet
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from nameko.exceptions import ConfigurationError
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from services.chassis.database import PASSING, engine_options
from services.chassis.errors import InvalidInput
from services.chassis.logs import get_logger
from services.chassis.provider import Provider
from services.users.models import Role, an_account
from services.users.passwords import make_hasher
from services.users.repository import UserRepository
from services.users.schemas import REGISTRATION

log = get_logger(__name__)

RETRY_SECONDS: Final = 2.0


class FirstAdministrator(Provider[None]):
    """Makes the first administrator at the service's start, as soon as there is a database to keep it in."""

    def setup(self) -> None:
        """Refuse an address or a password that nobody could register with; without either nothing is made."""
        config = self.container.config
        self.email, self.password = str(config.get("ADMIN_EMAIL") or ""), str(config.get("ADMIN_PASSWORD") or "")
        self.wanted = bool(self.email and self.password)
        if self.wanted:
            check(self.email, self.password)

    def start(self) -> None:
        """Make it beside everything else."""
        if self.wanted:
            self.container.spawn_managed_thread(self.make, identifier="first administrator")

    def make(self) -> None:
        """Try until the database answers and has its tables."""
        config = self.container.config
        while True:
            try:
                if seed(config["DB_URIS"]["users:Base"], self.email, self.password, config):
                    log.info("first_administrator_made")
            except (*PASSING, ProgrammingError) as error:
                log.warning("first_administrator_waits", error=type(error).__name__)
                eventlet.sleep(RETRY_SECONDS)
            else:
                return

    def get_dependency(self, worker_ctx: Any) -> None:
        """Nothing: workers have no business with it."""


def check(email: str, password: str) -> None:
    """Raise ConfigurationError that names the rule, unless somebody could register with these."""
    try:
        REGISTRATION.read({"email": email, "password": password})
    except InvalidInput as error:
        broken = ", ".join(f"ADMIN_{each['pointer'][1:].upper()}: {each['detail']}" for each in error.extra["errors"])
        raise ConfigurationError(f"the first administrator cannot be made; {broken}") from None


def seed(database_url: str, admin_email: str, admin_password: str, config: Mapping[str, Any] | None = None) -> bool:
    """Whether this call made the first administrator.

    False when there is an administrator, or when the address belongs to an account, which stays as it is. Raises
    InvalidInput for an address or password that nobody could register with. ``config`` may have ``PASSWORD_...``.
    """
    account = REGISTRATION.read({"email": admin_email, "password": admin_password})
    password_hash = make_hasher(config or {}).hash(account.pop("password"))
    admin = an_account(**account, password_hash=password_hash, role=Role.ADMIN, now=datetime.now(UTC))
    engine = create_engine(database_url, **engine_options(1, "oms-seed"))
    try:
        with Session(engine) as session, session.begin():
            users = UserRepository(session)
            return not users.await_first_admin() and users.add_unless_taken(admin)
    finally:
        engine.dispose()


def renew(database_url: str, admin_email: str, admin_password: str) -> bool:
    """Whether this call gave the administrator of that address this password, because it had another."""
    hasher, engine = make_hasher({}), create_engine(database_url, **engine_options(1, "oms-seed"))
    try:
        with Session(engine) as session, session.begin():
            admin = UserRepository(session).find_by_email(admin_email)
            if admin is None or admin.role != Role.ADMIN or matches(hasher, admin.password_hash, admin_password):
                return False
            admin.password_hash = hasher.hash(admin_password)
            return True
    finally:
        engine.dispose()


def matches(hasher: PasswordHasher, password_hash: str, password: str) -> bool:
    """Whether the hash is of this password."""
    try:
        return hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


if __name__ == "__main__":
    made = seed(os.environ["DATABASE_URL"], os.environ["ADMIN_EMAIL"], os.environ["ADMIN_PASSWORD"])
    sys.stdout.write("The first administrator was made.\n" if made else "There is an administrator already.\n")
