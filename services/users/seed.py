"""The first administrator, from configuration and never from a request.

``python -m services.users.seed`` makes it in the database of ``DATABASE_URL`` from ``ADMIN_EMAIL`` and
``ADMIN_PASSWORD``. Where there is an administrator already nothing changes, and any number may run at once.
"""

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from services.chassis.database import engine_options
from services.users.models import Role, an_account
from services.users.passwords import make_hasher
from services.users.repository import UserRepository
from services.users.schemas import REGISTRATION


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


if __name__ == "__main__":
    made = seed(os.environ["DATABASE_URL"], os.environ["ADMIN_EMAIL"], os.environ["ADMIN_PASSWORD"])
    sys.stdout.write("The first administrator was made.\n" if made else "There is an administrator already.\n")
