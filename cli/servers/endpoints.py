"""Where the servers are and how to get in: what ``up`` and the tests ask of private and of given servers alike."""

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import yaml

from cli.trouble import Trouble


@dataclass(frozen=True)
class Management:
    """RabbitMQ's management API and an administrator's credentials."""

    url: str
    """Without a path, such as ``http://127.0.0.1:15672``."""
    user: str
    password: str
    authority: str = ""
    """The file of the authority to trust with ``https://``; empty for those of the system."""


@dataclass(frozen=True)
class Endpoints:
    """The administrators' addresses of the three servers; a server that was not asked for has an empty one."""

    postgres_url: str = ""
    """``postgresql+psycopg2://`` URL of a role that may create roles and databases, at a database it may use."""
    amqp_url: str = ""
    """AMQP URL of an administrator, at the virtual host the services use."""
    management: Management = Management("", "", "")
    redis_url: str = ""


def given_postgres() -> str:
    """OMS_POSTGRES_URL with the driver this system uses; empty when it is not set."""
    url = os.environ.get("OMS_POSTGRES_URL", "")
    for scheme in ("postgres://", "postgresql://"):
        if url.startswith(scheme):
            return "postgresql+psycopg2://" + url.removeprefix(scheme)
    return url


def given_redis() -> str:
    """OMS_REDIS_URL; empty when it is not set."""
    return os.environ.get("OMS_REDIS_URL", "")


def given_amqp_ssl() -> str:
    """AMQP_SSL as it is written; empty when it is not set."""
    return os.environ.get("AMQP_SSL", "")


def read_amqp_ssl(written: str) -> dict[str, Any]:
    """What AMQP_SSL says; raises :class:`Trouble` when it is no mapping."""
    try:
        read = yaml.safe_load(written) or {}
    except yaml.YAMLError:
        read = written
    if not isinstance(read, dict):
        raise Trouble(f"AMQP_SSL must be a mapping such as {{ca_certs: /path/ca.pem}}, but is {written}")
    return read


def given_rabbitmq() -> tuple[str, Management] | None:
    """OMS_RABBITMQ_URL and OMS_RABBITMQ_MANAGEMENT_URL; None when neither is set.

    The management URL may carry credentials of its own; without them the AMQP URL's are used.
    """
    amqp_url = os.environ.get("OMS_RABBITMQ_URL", "")
    management_url = os.environ.get("OMS_RABBITMQ_MANAGEMENT_URL", "")
    if not amqp_url and not management_url:
        return None
    if not amqp_url or not management_url:
        raise Trouble("OMS_RABBITMQ_URL and OMS_RABBITMQ_MANAGEMENT_URL belong together: set both, or neither.")
    parts = urlsplit(management_url)
    login = parts if parts.username else urlsplit(amqp_url)
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    user, password = unquote(login.username or "guest"), unquote(login.password or "guest")
    return amqp_url, Management(bare, user, password, read_amqp_ssl(given_amqp_ssl()).get("ca_certs", ""))


def amqp_url(host: str, user: str, password: str, vhost: str) -> str:
    """The AMQP URL of those parts; ``host`` is ``name:port``."""
    return f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@{host}/{quote(vhost, safe='')}"


def vhost_of(url: str) -> str:
    """The virtual host an AMQP URL names; ``/`` when it names none."""
    return unquote(urlsplit(url).path[1:]) or "/"


def with_vhost(url: str, vhost: str) -> str:
    """The same AMQP URL at another virtual host."""
    return urlunsplit(urlsplit(url)._replace(path="/" + quote(vhost, safe="")))


def with_database(url: str, database: str, user: str = "", password: str = "") -> str:
    """The same PostgreSQL URL at another database, and as another role when one is given."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}" if user else parts.netloc
    return urlunsplit(parts._replace(netloc=netloc, path="/" + quote(database, safe="")))
