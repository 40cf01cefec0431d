"""The four databases: each belongs to one service's role, and no other service's role may connect to it."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Final

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class

from cli.servers.endpoints import with_database
from cli.trouble import Trouble

DATABASES: Final[Mapping[str, str]] = {
    "users": "userservice_db",
    "orders": "orderservice_db",
    "inventory": "inventoryservice_db",
    "payments": "paymentservice_db",
}
"""Which service owns which database; its role is named like the service."""


def make_databases(admin_url: str, passwords: Mapping[str, str]) -> dict[str, str]:
    """Each service's database URL, its role and database made or mended; repeating it changes nothing."""
    with session(admin_url) as cursor:
        for service in DATABASES:
            make_role(cursor, service, passwords[service])
            make_database(cursor, DATABASES[service], service)
    return {
        service: with_database(admin_url, database, service, passwords[service])
        for service, database in DATABASES.items()
    }


def make_role(cursor: Cursor, role: str, password: str) -> None:
    """Make the role, or give it this password."""
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role])
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    cursor.execute(
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {}").format(
            sql.SQL(verb), sql.Identifier(role), sql.Literal(password)
        )
    )
    cursor.execute("SELECT pg_has_role(%s, 'MEMBER')", [role])
    if cursor.fetchone() == (False,):  # who makes a database for another role must be a member of it
        cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))


def make_database(cursor: Cursor, database: str, owner: str, template: str = "template0") -> None:
    """Make the database if it is not there, owned by that role and closed to all others."""
    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
    name = sql.Identifier(database)
    if not cursor.fetchone():
        cursor.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                name, sql.Identifier(owner), sql.Identifier(template)
            )
        )
    cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(name, sql.Identifier(owner)))
    cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))


def drop_database(cursor: Cursor, database: str) -> None:
    """Remove the database and whoever is connected to it."""
    cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))


@contextmanager
def session(url: str) -> Iterator[Cursor]:
    """A cursor that commits every statement by itself."""
    try:
        connection = psycopg2.connect(url.replace("+psycopg2", "", 1), connect_timeout=10)
    except psycopg2.OperationalError as error:
        raise Trouble(f"PostgreSQL cannot be reached: {error}") from error
    with closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
