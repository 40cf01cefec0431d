"""One PostgreSQL database: nameko-sqlalchemy's engine and sessions, with a deadline on everything.

Green psycopg2 ignores ``connect_timeout``, and a killed query goes on in the server, so deadlines stand on both sides:
the server's own time-outs end statements, lock waits and forgotten transactions (an instance that is frozen must not
hold row locks), and eventlet time-outs end connecting and pinging.
"""

from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import eventlet
import nameko_sqlalchemy
from nameko.exceptions import ConfigurationError
from sqlalchemy import MetaData, event, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from services.chassis import tls, wire
from services.chassis.config import read, whole

MESSAGES: Final = MetaData()
"""The chassis' own tables, beside those of the service in the same database."""

CONNECT_SECONDS: Final = 3
PING_SECONDS: Final = 1.0
"""Leaves who had to wait for it time to connect and to ask."""

PASSING: Final = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors that another try may not meet: connection lost, deadlock, lock or statement time-out, pool exhausted."""

_OF_TLS: Final = ("SSL", "server certificate", "root certificate")
"""By these words libpq's errors about TLS can be told; it has no code for them."""

_SERVER_SETTINGS: Final = {
    "statement_timeout": "4000",
    "lock_timeout": "3000",
    "idle_in_transaction_session_timeout": "5000",
    "timezone": "UTC",
}


READ_ONLY: Final = "25006"
"""SQLSTATE read_only_sql_transaction: what a former primary answers until the connections reach the new one."""


def is_passing(error: BaseException) -> bool:
    """Whether another try may succeed."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PASSING)
    failed_over = getattr(error.orig, "pgcode", None) == READ_ONLY
    return isinstance(error, PASSING) or error.connection_invalidated or failed_over


def distrust(error: BaseException) -> str:
    """In words why the server's certificate was refused; empty when the error is about something else."""
    lines = str(getattr(error, "orig", "")).splitlines()  # one for each address of the server
    reasons = [line.rpartition(" failed: ")[2] for line in lines]
    return next((reason for reason in reasons if any(words in reason for words in _OF_TLS)), "")


def engine_options(pool_size: int, application_name: str = "oms") -> dict[str, Any]:
    """What every engine of this system is made with."""
    options = " ".join(f"-c {name}={quote(value)}" for name, value in _SERVER_SETTINGS.items())
    return {
        "pool_size": pool_size,
        "max_overflow": 0,
        "pool_timeout": CONNECT_SECONDS,
        "pool_pre_ping": True,
        "pool_recycle": 1800,
        "hide_parameters": True,  # parameters are people's data: never in an error or a log
        "json_serializer": lambda value: wire.encode(value).decode(),
        "json_deserializer": wire.decode,
        "connect_args": {
            "options": options,
            "application_name": application_name,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 5000,
        },
    }


def bound_waiting(engine: Engine) -> None:
    """Give up connecting after CONNECT_SECONDS, also on a server that accepts and says nothing, and pinging likewise.

    A connection on which a ping met silence tells of all that are as old: SQLAlchemy opens new ones then, where each of
    them would cost another caller all his patience.
    """
    dialect: Any = engine.dialect
    ping = dialect.do_ping

    def silence() -> Exception:
        error: Exception = dialect.loaded_dbapi.OperationalError("the database did not answer in time")
        return error

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        with eventlet.Timeout(CONNECT_SECONDS, silence()):
            return dialect.connect(*arguments, **options)

    def ping_in_time(connection: Any) -> bool:
        with eventlet.Timeout(PING_SECONDS, silence()):
            return bool(ping(connection))

    dialect.do_ping = ping_in_time


class Database(nameko_sqlalchemy.Database):
    """The engine of this service's database, taken from ``DB_URIS`` under ``<service>:<Base's name>``."""

    def setup(self) -> None:
        """Make the engine; connects to nothing yet."""
        config = self.container.config
        key = f"{self.container.service_name}:{self.declarative_base.__name__}"
        if not str((config.get("DB_URIS") or {}).get(key, "")).startswith("postgresql+psycopg2://"):
            raise ConfigurationError(f"DB_URIS needs a postgresql+psycopg2:// URL for {key}")
        pool_size = read(config, "DB_POOL_SIZE", whole)
        self.engine_options = engine_options(pool_size, f"oms-{self.container.service_name}")
        self.session_options = {"expire_on_commit": False}
        super().setup()
        bound_waiting(self.engine)

    def stop(self) -> None:
        """Close every connection."""
        with suppress(AttributeError):  # stop and kill may both come
            super().stop()

    kill = stop

    def check_ready(self) -> str | None:
        """What is missing, or None: the database answers."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except PASSING as error:
            return tls.because("the database does not answer", distrust(error))
        return None
