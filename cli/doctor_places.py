"""Where the doctor looks: the databases, the broker and the mailbox of a running cluster.

``.oms/env/<service>`` says it for a cluster of ``./oms up``; ``--env FOLDER`` names another folder with such files. A
container is told the same by its environment: ``OMS_ORDERS_DATABASE_URL`` and the like, ``OMS_OPERATOR_URL``,
``OMS_RABBITMQ_MANAGEMENT_URL``, MAILBOX_DIR and SMTP_URL. The broker is looked into as its user ``operator``.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from cli.databases import DATABASES
from cli.servers.endpoints import Management, given_amqp_ssl, read_amqp_ssl
from cli.services import OPERATOR
from cli.state import current
from cli.trouble import Trouble

MAILBOX: Final = "MAILBOX_DIR"
SMTP: Final = "SMTP_URL"
MANAGEMENT: Final = "MANAGEMENT_URL"
AMQP_SSL: Final = "AMQP_SSL"
TOLD_OPERATOR: Final = "OMS_OPERATOR_URL"
TOLD_MANAGEMENT: Final = "OMS_RABBITMQ_MANAGEMENT_URL"
TOLD_DATABASES: Final[Mapping[str, str]] = {
    "users": "OMS_USERS_DATABASE_URL",
    "orders": "OMS_ORDERS_DATABASE_URL",
    "inventory": "OMS_INVENTORY_DATABASE_URL",
    "payments": "OMS_PAYMENTS_DATABASE_URL",
}
ENVIRONMENT: Final = "The environment"


@dataclass(frozen=True)
class Places:
    """The addresses of one cluster, each with what is needed to get in."""

    database_urls: Mapping[str, str]
    operator_url: str = ""
    """The AMQP URL of the broker user ``operator``; empty when there is no broker to look into."""
    management: Management | None = None
    mailbox: Path | None = None
    """None when the mails leave by SMTP, or nobody said where the mailbox is."""
    amqp_ssl: Mapping[str, Any] = field(default_factory=dict)
    """AMQP_SSL, for ``amqps://``."""


def find_places(folder: Path | None) -> Places:
    """The places that the files of that folder name; without one, those of the environment or this checkout."""
    if folder is None and os.environ.get(TOLD_OPERATOR):
        urls = {service: required(os.environ, name, ENVIRONMENT) for service, name in TOLD_DATABASES.items()}
        management = required(os.environ, TOLD_MANAGEMENT, ENVIRONMENT)
        return places_of(urls, os.environ[TOLD_OPERATOR], management, os.environ, given_amqp_ssl())
    where = folder or current().environments
    told = {service: read_variables(where, service) for service in DATABASES}
    urls = {service: required(variables, "DATABASE_URL", where / service) for service, variables in told.items()}
    operator = read_variables(where, OPERATOR)
    operator_url, management = (required(operator, name, where / OPERATOR) for name in ("AMQP_URI", MANAGEMENT))
    mails = {**os.environ, **read_variables(where, "notifications")}
    return places_of(urls, operator_url, management, mails, operator.get(AMQP_SSL, ""))


def places_of(
    urls: Mapping[str, str], operator_url: str, management_url: str, mails: Mapping[str, str], amqp_ssl: str = ""
) -> Places:
    """These addresses; the management API is asked as the user of the AMQP URL."""
    login, tls = urlsplit(operator_url), read_amqp_ssl(amqp_ssl)
    user, password = unquote(login.username or ""), unquote(login.password or "")
    management = Management(management_url.rstrip("/"), user, password, tls.get("ca_certs", ""))
    return Places(urls, operator_url, management, mailbox_of(mails), tls)


def find_operator_url(folder: Path | None) -> str:
    """The operator's AMQP URL alone."""
    if folder is None and os.environ.get(TOLD_OPERATOR):
        return os.environ[TOLD_OPERATOR]
    where = folder or current().environments
    return required(read_variables(where, OPERATOR), "AMQP_URI", where / OPERATOR)


def find_amqp_ssl(folder: Path | None) -> dict[str, Any]:
    """AMQP_SSL, from where the operator's URL is."""
    if folder is None and os.environ.get(TOLD_OPERATOR):
        return read_amqp_ssl(given_amqp_ssl())
    return read_amqp_ssl(read_variables(folder or current().environments, OPERATOR).get(AMQP_SSL, ""))


def mailbox_of(variables: Mapping[str, str]) -> Path | None:
    """The mailbox, if it is where the mails go."""
    named = variables.get(MAILBOX, "")
    return Path(named) if named and not variables.get(SMTP) and Path(named).is_dir() else None


def read_variables(folder: Path, name: str) -> dict[str, str]:
    """What the file of that service says; raises :class:`Trouble` when there is none."""
    file = folder / name
    try:
        pairs = [line.partition("=") for line in file.read_text().splitlines() if "=" in line]
        return {key: "".join(shlex.split(value)) for key, _, value in pairs}
    except FileNotFoundError:
        raise Trouble(f"There is no {file}. Start a cluster: ./oms up, or name its files: --env FOLDER") from None
    except ValueError:
        raise Trouble(f"{file} was only half written. Run ./oms up: it writes it anew.") from None


def required(variables: Mapping[str, str], name: str, where: object) -> str:
    """The variable's value; raises :class:`Trouble` when it is not said."""
    if not variables.get(name):
        raise Trouble(f"{where} does not say {name}. In a cluster of ./oms up, ./oms up writes it.")
    return variables[name]
