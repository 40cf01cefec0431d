"""What each process of a cluster is told: one file per service, readable by its owner only.

``set -a; . .oms/env/orders`` puts it into a shell, and ``nameko run`` from there is the service of the cluster.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from cli.files import secret, write_atomic
from cli.servers.endpoints import Endpoints, given_amqp_ssl
from cli.servers.ports import LOOPBACK, Ports
from cli.services import OPERATOR, SERVICES, service_of
from cli.state import State
from cli.trouble import Trouble

if TYPE_CHECKING:
    from cli.certificate import Certificate  # whose packages the image's jobs do not have

ADMIN_EMAIL = "admin@example.com"


@dataclass(frozen=True)
class Surroundings:
    """What all processes of the cluster share."""

    endpoints: Endpoints
    database_urls: Mapping[str, str]
    certificate: "Certificate | None" = None
    """What the services show over HTTPS; without one there is none."""


def broker_password(state: State, user: str) -> str:
    """The password of that broker user in this cluster."""
    return secret(state.secrets, f"rabbitmq-{user}")


def database_passwords(state: State) -> dict[str, str]:
    """The password of each service's database role in this cluster."""
    return {service: secret(state.secrets, f"postgres-{service}") for service in SERVICES}


def admin_password(state: State) -> str:
    """The password of the first administrator, and what the demo signs in with."""
    return secret(state.secrets, "admin", 12)


def previous_secret(state: State) -> str:
    """The token secret that still counts while another is being replaced; there is one if a person wrote it down."""
    file = state.secrets / "jwt-previous"
    return file.read_text().strip() if file.exists() else ""


def write_environment(state: State, instance: str, around: Surroundings, *, running: bool) -> bool:
    """Write the file of ``orders``, ``orders-2`` or ``operator``; answers whether it says something new."""
    file = state.environments / instance
    text = "".join(
        f"{name}={shlex.quote(value)}\n" for name, value in environment(state, instance, around, running).items()
    )
    if file.exists() and file.read_text(errors="replace") == text:
        return False
    write_atomic(file, text)
    return True


def read_environment(state: State, instance: str) -> dict[str, str]:
    """What the file of that instance says."""
    file = state.environments / instance
    try:
        lines = file.read_text().splitlines()
        found = {name: "".join(shlex.split(value)) for name, _, value in (line.partition("=") for line in lines)}
    except FileNotFoundError:
        raise Trouble(f"There is no cluster in {state.folder}. Start one: ./oms up") from None
    except ValueError:
        found = {}
    if "OMS_STATE" not in found:
        raise Trouble(f"{file} was only half written. Run ./oms up: it writes it anew.")
    return found


def environment(state: State, instance: str, around: Surroundings, running: bool) -> dict[str, str]:  # noqa: FBT001
    """Every variable of that instance."""
    user = instance if instance == OPERATOR else service_of(instance).name
    variables = {
        "AMQP_URI": broker_url(around.endpoints.amqp_url, user, broker_password(state, user)),
        "REDIS_URL": around.endpoints.redis_url,
        "HTTP_HOST": LOOPBACK,
        "JWT_SECRET": secret(state.secrets, "jwt", 48),
        "MAILBOX_DIR": str(state.mailbox),
        "OMS_STATE": str(state.folder),
    }
    if trust := given_amqp_ssl():
        variables["AMQP_SSL"] = trust
    if previous := previous_secret(state):
        variables["JWT_SECRET_PREVIOUS"] = previous
    if user in around.database_urls:
        variables["DATABASE_URL"] = around.database_urls[user]
    if user == OPERATOR:
        variables["MANAGEMENT_URL"] = around.endpoints.management.url
    else:
        variables |= ports(state, instance, running=running)
        variables |= tls(around.certificate)
    if user == "users":
        variables |= {"ADMIN_EMAIL": ADMIN_EMAIL, "ADMIN_PASSWORD": admin_password(state)}
    return variables


def ports(state: State, instance: str, *, running: bool) -> dict[str, str]:
    """The instance's ports: while it runs those it has, else its usual ones, else free ones."""
    service = service_of(instance)
    first = instance == service.name
    wanted = {"HTTP_PORT": service.http_port if first else 0, "HTTPS_PORT": service.https_port if first else 0}
    known = Ports(state.ports).known()
    chosen = {}
    for name, preferred in wanted.items():
        key = f"{instance}.{name.removesuffix('_PORT').lower()}"
        kept = known.get(key) if running else None
        chosen[name] = str(kept or Ports(state.ports).take(key, preferred))
    return chosen


def port_names(instance: str) -> list[str]:
    """By which names the instance's ports are written down."""
    return [f"{instance}.http", f"{instance}.https"]


def tls(certificate: "Certificate | None") -> dict[str, str]:
    """What a service must know to speak TLS."""
    if certificate is None:
        return {}
    variables = {"TLS_CERTIFICATE": str(certificate.certificate), "TLS_KEY": str(certificate.key)}
    if certificate.authority:  # a browser would keep all of localhost, whatever listens there, from HTTP for a year
        variables["HSTS_SECONDS"] = "60"
    return variables


def broker_url(admin_url: str, user: str, password: str) -> str:
    """The same broker and virtual host as another user."""
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"))
