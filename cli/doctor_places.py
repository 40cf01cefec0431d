"""Where the doctor looks: the databases, the broker and the mailbox of a running cluster, or of given files.

``.oms/env/<service>`` says it for a cluster of ``./oms up``. ``--env FOLDER`` names a folder with such files (or with
folders that hold a file ``environment``). In containers the servers are given by URL and the passwords are kept in
``OMS_STATE``.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli import prepare
from cli.databases import DATABASES
from cli.environments import broker_url
from cli.servers.endpoints import Management, given_postgres, given_rabbitmq
from cli.servers.private import Recipes
from cli.services import OPERATOR
from cli.state import State, current
from cli.trouble import Trouble

MAILBOX: Final = "MAILBOX_DIR"
SMTP: Final = "SMTP_URL"


@dataclass(frozen=True)
class Places:
    """The addresses of one cluster, each with what is needed to get in."""

    database_urls: Mapping[str, str]
    operator_url: str = ""
    """The AMQP URL of the broker user ``operator``; empty when there is no broker to look into."""
    management: Management | None = None
    mailbox: Path | None = None
    """None when the mails leave by SMTP, or nobody said where the mailbox is."""


def find_places(folder: Path | None) -> Places:
    """The places that the files of that folder name; without one, those of this checkout's cluster."""
    state = current()
    if folder is None and not state.environments.is_dir() and given_postgres() and state.secrets.is_dir():
        return places_of_servers(state)
    where = folder or state.environments
    told = {service: read_variables(where, service) for service in DATABASES}
    notifications = read_variables(where, "notifications")
    return Places(
        {service: required(variables, "DATABASE_URL", where / service) for service, variables in told.items()},
        required(read_variables(where, OPERATOR), "AMQP_URI", where / OPERATOR),
        find_management(state),
        mailbox_of({**os.environ, **notifications}),
    )


def find_operator_url(folder: Path | None) -> str:
    """The operator's AMQP URL alone."""
    state = current()
    where = folder or state.environments
    if folder is None and not where.is_dir() and given_rabbitmq() and state.secrets.is_dir():
        return places_of_servers(state).operator_url
    return required(read_variables(where, OPERATOR), "AMQP_URI", where / OPERATOR)


def places_of_servers(state: State) -> Places:
    """The given servers, with the passwords kept in the state folder."""
    found = given_rabbitmq()
    if found is None:
        raise Trouble("OMS_RABBITMQ_URL and OMS_RABBITMQ_MANAGEMENT_URL are missing: set both.")
    amqp_url, management = found
    urls = {service: prepare.database_url(state, service) for service in DATABASES} if given_postgres() else {}
    operator = broker_url(amqp_url, OPERATOR, prepare.kept(state, f"rabbitmq-{OPERATOR}"))
    return Places(urls, operator, prepare.administered(state, amqp_url, management), mailbox_of(os.environ))


def find_management(state: State) -> Management:
    """The management API of the given broker, or of the private one."""
    return Recipes(state.folder).endpoints(postgres=False, valkey=False).management


def mailbox_of(variables: Mapping[str, str]) -> Path | None:
    """The mailbox, if it is where the mails go."""
    named = variables.get(MAILBOX, "")
    return Path(named) if named and not variables.get(SMTP) and Path(named).is_dir() else None


def read_variables(folder: Path, name: str) -> dict[str, str]:
    """What the file of that service says; raises :class:`Trouble` when there is none."""
    file = folder / name / "environment" if (folder / name).is_dir() else folder / name
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        raise Trouble(f"There is no {file}. Start a cluster: ./oms up, or name its files: --env FOLDER") from None
    pairs = (line.removeprefix("export ").partition("=") for line in lines if "=" in line)
    return {key: "".join(shlex.split(value)) for key, _, value in pairs}


def required(variables: Mapping[str, str], name: str, file: Path) -> str:
    """The variable's value; raises :class:`Trouble` when the file does not say it."""
    if not variables.get(name):
        raise Trouble(f"{file} does not say {name}.")
    return variables[name]
