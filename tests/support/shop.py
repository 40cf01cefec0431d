"""Where the books of a small shop are, and how to spoil them: four databases, a mailbox, the orders' ids."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from cli.databases import drop_database, make_database, session
from cli.servers.endpoints import with_database


@dataclass
class Shop:
    """The databases' URLs and the mailbox, and the ids of what is in them."""

    postgres_url: str
    urls: dict[str, str]
    mailbox: Path
    ids: dict[str, UUID] = field(default_factory=dict)

    def engine(self, service: str) -> Engine:
        """An engine that keeps no connection open."""
        return create_engine(self.urls[service], poolclass=NullPool)

    def spoil(self, service: str, *statements: str) -> None:
        """Change that database as its superuser, past triggers and foreign keys; ``{shipped}`` is that order's id."""
        database = self.urls[service].rpartition("/")[2]
        ids = {name: f"'{each}'" for name, each in self.ids.items()}
        with session(with_database(self.postgres_url, database)) as cursor:
            cursor.execute("SET session_replication_role = replica")
            for statement in statements:
                cursor.execute(statement.format(**ids))

    def rows(self, service: str, query: str, **values: Any) -> list[Any]:
        """What that database answers."""
        with self.engine(service).connect() as connection:
            return list(connection.execute(text(query), values))

    def copied(self, *services: str) -> "Shop":
        """The same shop with databases of its own for these services."""
        urls = dict(self.urls)
        with session(self.postgres_url) as cursor:
            for service in services:
                database = f"books_{service}_{secrets.token_hex(4)}"
                make_database(cursor, database, service, self.urls[service].rpartition("/")[2])
                urls[service] = self.urls[service].rpartition("/")[0] + "/" + database
        return Shop(self.postgres_url, urls, self.mailbox, self.ids)

    def drop(self, other: "Shop | None" = None) -> None:
        """Remove the databases, but those it shares with the other shop."""
        kept = set(other.urls.values()) if other else set()
        with session(self.postgres_url) as cursor:
            for url in set(self.urls.values()) - kept:
                drop_database(cursor, url.rpartition("/")[2])
