"""Alembic without files of its own: each database's migrations live in ``services/<name>/migrations/versions``.

``python -m services.chassis.migrations orders`` brings the database of ``DATABASE_URL`` to the newest version; running
it again changes nothing, and two at once wait for each other.
"""

import os
import sys
from pathlib import Path
from typing import Final

from alembic import command, context, op
from alembic.config import Config
from sqlalchemy import MetaData, NullPool, create_engine, text
from sqlalchemy.schema import CreateIndex, CreateTable

from services.chassis.database import MESSAGES
from services.chassis.inbox import INBOX
from services.chassis.outbox import OUTBOX

SERVICES: Final = Path(__file__).resolve().parent.parent
ONE_AT_A_TIME: Final = 0x6F6D73
"""The advisory lock that a migration holds."""


def configuration(service: str, database_url: str) -> Config:
    """What Alembic's own commands need to work on the database of ``service``."""
    config = Config()
    config.set_main_option("script_location", str(SERVICES / service / "migrations").replace("%", "%%"))
    config.attributes["url"] = database_url
    return config


def upgrade(service: str, database_url: str) -> None:
    """Bring the database to the newest version."""
    command.upgrade(configuration(service, database_url), "head")


def run(metadata: MetaData) -> None:
    """Run what Alembic was asked for; all that a service's ``env.py`` says."""
    engine = create_engine(context.config.attributes["url"], poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ONE_AT_A_TIME})
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=[metadata, MESSAGES],
            compare_type=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()


def create_outbox() -> None:
    """The outbox as of its first version, for a service's first migration."""
    op.execute(CreateTable(OUTBOX))
    for index in OUTBOX.indexes:
        op.execute(CreateIndex(index))


def create_inbox() -> None:
    """The inbox as of its first version, for a service's first migration."""
    op.execute(CreateTable(INBOX))
    for index in INBOX.indexes:
        op.execute(CreateIndex(index))


if __name__ == "__main__":
    upgrade(sys.argv[1], os.environ["DATABASE_URL"])
