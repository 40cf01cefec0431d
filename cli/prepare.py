"""``./oms prepare``: what must exist before the services start, done as a job where containers are the cluster.

``./oms up`` does the same for itself. Here the servers are given: OMS_POSTGRES_URL, OMS_RABBITMQ_URL,
OMS_RABBITMQ_MANAGEMENT_URL and OMS_REDIS_URL name them. A URL without a password takes it from the file ``postgres``,
``rabbitmq`` or ``redis`` in ``OMS_STATE/secrets``, where the services' own passwords are too (``postgres-orders``,
``rabbitmq-orders`` ...). Every part may be repeated, and gives each account the password that its file holds now.
"""

import argparse
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cli import topology
from cli.configuration import configuration
from cli.databases import DATABASES, make_databases
from cli.doctor_places import TOLD_DATABASES, TOLD_OPERATOR
from cli.environments import ADMIN_EMAIL, broker_url
from cli.files import make_folder, secret, write_atomic
from cli.servers.endpoints import (
    Management,
    given_amqp_ssl,
    given_postgres,
    given_rabbitmq,
    given_redis,
    vhost_of,
    with_database,
)
from cli.services import OPERATOR, SERVICES
from cli.state import State, current
from cli.trouble import Trouble
from services.chassis import migrations
from services.inventory.seed import seed as seed_catalogue
from services.users.seed import seed as seed_administrator

HELP = "prepare given servers for the services; a job for containers"
CHOSEN: Final = {"jwt": "JWT_SECRET", "admin": "ADMIN_PASSWORD"}
"""Secrets that a person may choose: the variable that says so."""

READABLE: Final = 0o444
"""Another image's user reads the file; nobody else has the folder it is in."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The parts."""
    usual = [part for part in PARTS if part != "secrets"]
    parser.add_argument(
        "parts", nargs="*", metavar="PART", type=part_of, default=usual, help=f"one of {', '.join(PARTS)}"
    )
    parser.add_argument("--replace-empty", action="store_true", help=f"with topology: {topology.REPLACE_EMPTY}")


def part_of(name: str) -> str:
    """The name, if it is a part's."""
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no part {name!r}; there are {', '.join(PARTS)}")
    return name


def run(args: argparse.Namespace) -> int:
    """0 when everything that was asked for exists."""
    careful = partial(prepare_topology, replace_empty=args.replace_empty)
    for part in args.parts:
        prepare = careful if part == "topology" else PARTS[part]
        print(f"{part}: {prepare(current())}", flush=True)
    return 0


def make_secrets(state: State) -> str:
    """Random secrets where there are none yet, and a folder for each container with what that one may know."""
    make_folder(state.folder, 0o755)
    for name, variable in CHOSEN.items():
        if os.environ.get(variable):
            write_atomic(make_folder(state.secrets) / name, os.environ[variable] + "\n")
    secret(state.secrets, "admin", 12)
    share(state, "postgres", "password", secret(state.secrets, "postgres"))
    share(state, "redis", "redis.conf", f"requirepass {secret(state.secrets, 'redis')}\n")
    administrator = urlsplit(given("OMS_RABBITMQ_URL")).username
    password = secret(state.secrets, "rabbitmq")
    share(state, "rabbitmq", "rabbitmq.conf", f"default_user = {administrator}\ndefault_pass = {password}\n")
    for service in SERVICES:
        share_environment(state, service, environment(state, service))
    share_environment(state, OPERATOR, operator_environment(state))
    return f"in {state.folder}"


def environment(state: State, service: str) -> dict[str, str]:
    """The variables of a service that hold a secret."""
    variables = {
        "AMQP_URI": broker_url(given("OMS_RABBITMQ_URL"), service, secret(state.secrets, f"rabbitmq-{service}")),
        "REDIS_URL": with_password(given_redis(), secret(state.secrets, "redis")),
        "JWT_SECRET": secret(state.secrets, "jwt", 48),
    }
    if service in DATABASES:
        secret(state.secrets, f"postgres-{service}")
        variables["DATABASE_URL"] = database_url(state, service)
    return variables | amqp_ssl()


def operator_environment(state: State) -> dict[str, str]:
    """The variables that the doctor and the dead letters need: accounts of the services, none of an administrator."""
    password = secret(state.secrets, f"rabbitmq-{OPERATOR}")
    urls = {TOLD_DATABASES[service]: database_url(state, service) for service in DATABASES}
    return urls | {TOLD_OPERATOR: broker_url(given("OMS_RABBITMQ_URL"), OPERATOR, password)} | amqp_ssl()


def amqp_ssl() -> dict[str, str]:
    """How everybody trusts a broker that speaks TLS, as the environment says it."""
    return {"AMQP_SSL": given_amqp_ssl()} if given_amqp_ssl() else {}


def share_environment(state: State, container: str, variables: Mapping[str, str]) -> None:
    """Put the variables where the container's shell reads them. Nothing here needs quoting: URLs and random letters."""
    unquotable = [name for name, value in variables.items() if "'" in value or "\n" in value]
    if unquotable:
        raise Trouble(f"{', '.join(unquotable)} may contain neither an apostrophe nor a new line.")
    lines = [f"export {name}='{value}'\n" for name, value in variables.items()]
    share(state, container, "environment", "".join(lines))


def share(state: State, container: str, name: str, text: str) -> None:
    """Put a file into the container's folder."""
    folder = make_folder(make_folder(state.folder / "for", 0o755) / container, 0o755)
    write_atomic(folder / name, text, READABLE)


def prepare_databases(state: State) -> str:
    """Every service's database, owned by its role, at its newest version."""
    make_databases(postgres_url(state), {service: kept(state, f"postgres-{service}") for service in DATABASES})
    for service in DATABASES:
        migrations.upgrade(service, database_url(state, service))
    return ", ".join(DATABASES.values())


def prepare_topology(state: State, *, replace_empty: bool = False) -> str:
    """Exchanges, queues, bindings and one user per service in the broker."""
    wanted = topology.wanted()
    found = given_rabbitmq()
    if found is None:
        raise Trouble("OMS_RABBITMQ_URL and OMS_RABBITMQ_MANAGEMENT_URL are missing: set both.")
    amqp_url, management = found
    passwords = {user.name: kept(state, f"rabbitmq-{user.name}") for user in wanted.users}
    administrator = administered(state, amqp_url, management)
    topology.apply(wanted, administrator, vhost_of(amqp_url), passwords, replace_empty=replace_empty)
    return topology.summary(wanted)


def prepare_catalogue(state: State) -> str:
    """The first products; those that are there stay as they are."""
    return f"{seed_catalogue(database_url(state, 'inventory'), configuration()['CURRENCY'])} new products"


def prepare_administrator(state: State) -> str:
    """The first administrator, unless there is one."""
    settings = configuration()
    email = settings["ADMIN_EMAIL"] or ADMIN_EMAIL
    made = seed_administrator(database_url(state, "users"), email, kept(state, "admin"), settings)
    return f"{email} was made" if made else "there is one already"


PARTS: Final[Mapping[str, Callable[[State], str]]] = {
    "secrets": make_secrets,
    "databases": prepare_databases,
    "topology": prepare_topology,
    "catalogue": prepare_catalogue,
    "administrator": prepare_administrator,
}


def administered(state: State, amqp_url: str, management: Management) -> Management:
    """The management API with the administrator's password, from its file when the URLs have none."""
    if urlsplit(amqp_url).password or urlsplit(given("OMS_RABBITMQ_MANAGEMENT_URL")).password:
        return management
    return replace(management, password=kept(state, "rabbitmq"))


def postgres_url(state: State) -> str:
    """The administrator's URL of PostgreSQL."""
    url = given_postgres() or given("OMS_POSTGRES_URL")
    return url if urlsplit(url).password else with_password(url, kept(state, "postgres"))


def database_url(state: State, service: str) -> str:
    """The URL of a service's own database, as its role."""
    url = given_postgres() or given("OMS_POSTGRES_URL")
    return with_database(url, DATABASES[service], service, kept(state, f"postgres-{service}"))


def with_password(url: str, password: str) -> str:
    """The same URL with this password, unless it has one."""
    parts = urlsplit(url)
    if parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:{password}@{host}").geturl()


def given(variable: str) -> str:
    """The variable's value; raises :class:`Trouble` when there is none."""
    value = os.environ.get(variable, "")
    if not value:
        raise Trouble(f"{variable} is missing.")
    return value


def kept(state: State, name: str) -> str:
    """The secret of that name; unlike in ``./oms up`` none is made here, because others hold it too."""
    file: Path = state.secrets / name
    try:
        value = file.read_text().strip()
    except OSError as error:
        raise Trouble(f"The secret {file} cannot be read: {error.strerror}.") from error
    if not value:
        raise Trouble(f"The secret {file} is empty.")
    return value
