"""The settings a service runs with, checked once before anything starts.

``config.yaml`` names every setting with ``${VARIABLE:default}``; Nameko reads it, :func:`check` refuses what cannot
work and names the key and the fix. In production, development conveniences refuse to start too.
"""

import os
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urlsplit

from nameko.exceptions import ConfigurationError

from services.chassis.provider import Provider

Value = TypeVar("Value")
Network = IPv4Network | IPv6Network

UNIT_SECONDS: Final[Mapping[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE: Final = re.compile(rf"([1-9][0-9]{{0,8}})/([1-9][0-9]{{0,3}})?({'|'.join(UNIT_SECONDS)})s?")

ENVIRONMENTS: Final = ("development", "production")
SHORTEST_SECRET: Final = 32
DEVELOPMENT_SECRET: Final = "development-only-secret-do-not-use-in-production"  # noqa: S105 - refused in production


class Rate(NamedTuple):
    """How much may come in how many seconds."""

    quota: int
    seconds: int


class Setting(Provider[Value]):
    """Injects the value of one setting: ``deadline = Setting("ORDER_DEADLINE_SECONDS", int)``."""

    def __init__(self, key: str, kind: Callable[[Any], Value]) -> None:
        self.key = key
        self.kind = kind

    def setup(self) -> None:
        """Read the value once; a wrong one refuses to start."""
        self.value = read(self.container.config, self.key, self.kind)

    def get_dependency(self, worker_ctx: Any) -> Value:
        """The value."""
        return self.value


def read(config: Mapping[str, Any], key: str, kind: Callable[[Any], Value]) -> Value:
    """The setting as a ``kind``; raises ConfigurationError that names the key when it is missing or is none."""
    if config.get(key) is None:
        raise ConfigurationError(f"{key} is missing: set it in config.yaml or in the environment")
    try:
        return kind(config[key])
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(f"{key} must be {_in_words(kind)}") from error


def _in_words(kind: Callable[[Any], object]) -> str:
    """What a value must be: the first line of our own readers, else the kind's name."""
    if getattr(kind, "__module__", "") != __name__ or not kind.__doc__:
        return f"a valid {getattr(kind, '__name__', 'value')}"
    words = kind.__doc__.partition("\n")[0].rstrip(".")
    return words[0].lower() + words[1:]


def positive(value: object) -> float:
    """A number above zero."""
    number = float(cast("Any", value))
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise ValueError(value)
    return number


def whole(value: object) -> int:
    """A whole number of at least one."""
    number = positive(value)
    if number != int(number):
        raise ValueError(value)
    return int(number)


def rate(value: object) -> Rate | None:
    """A rate such as 300/minute or 10/15minutes, 0 for no limit."""
    if value == 0 and not isinstance(value, bool):
        return None
    match = _RATE.fullmatch(text(value))
    if match is None:
        raise ValueError(value)
    return Rate(int(match[1]), int(match[2] or 1) * UNIT_SECONDS[match[3]])


def networks(value: object) -> tuple[Network, ...]:
    """A list of IP networks such as [10.0.0.0/8]."""
    if not isinstance(value, list):
        raise ValueError(value)  # noqa: TRY004 - read() reports both alike
    return tuple(ip_network(text(each)) for each in value)


def one_of(*words: str) -> Callable[[Any], str]:
    """A reader of these words."""

    def read_word(value: object) -> str:
        if value not in words:
            raise ValueError(value)
        return str(value)

    read_word.__doc__ = f"One of {', '.join(words)}."
    return read_word


def count(value: object) -> int:
    """A whole number, 0 or more."""
    return 0 if value == 0 and not isinstance(value, bool) else whole(value)


def port(value: object) -> int:
    """A TCP port; 0 means any free one."""
    number = int(cast("Any", value))
    if isinstance(value, bool) or number != float(cast("Any", value)) or not 0 <= number <= 65535:
        raise ValueError(value)
    return number


def flag(value: object) -> bool:
    """True or false, as YAML writes them."""
    if not isinstance(value, bool):
        raise ValueError(value)  # noqa: TRY004 - read() reports both alike
    return value


def text(value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def url(*schemes: str) -> Callable[[Any], str]:
    """A reader of URLs with one of these schemes and a host."""

    def read_url(value: object) -> str:
        parts = urlsplit(text(value))
        if parts.scheme not in schemes or not parts.hostname or parts.port == 0:
            raise ValueError(value)
        return str(value)

    read_url.__doc__ = f"A {' or '.join(schemes)} URL with a host."
    return read_url


def milliseconds(value: object) -> tuple[int, ...]:
    """A list of whole numbers, none smaller than the one before it."""
    numbers = tuple(whole(each) for each in value) if isinstance(value, list) else ()
    if not numbers or list(numbers) != sorted(numbers):
        raise ValueError(value)
    return numbers


KINDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "ENVIRONMENT": text,
    "AMQP_URI": url("amqp", "amqps", "pyamqp"),
    "HEARTBEAT": whole,
    "REDIS_URL": url("redis", "rediss"),
    "HTTP_HOST": text,
    "HTTP_SHARE_PORT": flag,
    "JWT_SECRET": text,
    "JWT_ISSUER": text,
    "JWT_AUDIENCE": text,
    "ACCESS_TOKEN_SECONDS": whole,
    "REFRESH_TOKEN_SECONDS": whole,
    "CURRENCY": text,
    "RPC_DEADLINE_SECONDS": positive,
    "RETRY_DELAYS_MS": milliseconds,
    "MAX_ATTEMPTS": whole,
    "SHUTDOWN_SECONDS": positive,
    "DB_POOL_SIZE": whole,
    "max_workers": whole,
}
"""What every service reads, whatever it does; the rest is read by whoever declares a Setting for it."""


def broker_tls(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What py-amqp is told so that it speaks TLS and checks authority and name; None where TLS is not asked for.

    Left to itself it would take any name that the authority has vouched for. Raises ConfigurationError when AMQP_SSL is
    no mapping, or names a file that cannot be read.
    """
    uri, given = urlsplit(config["AMQP_URI"]), config.get("AMQP_SSL") or {}
    if not isinstance(given, dict):
        raise ConfigurationError("AMQP_SSL must be a mapping such as {ca_certs: /path/ca.pem}")
    for name in ("ca_certs", "certfile", "keyfile"):
        if given.get(name) and not os.access(given[name], os.R_OK):
            raise ConfigurationError(f"AMQP_SSL: {name} {given[name]} cannot be read")
    return {"server_hostname": uri.hostname, **given} if given or uri.scheme == "amqps" else None


def check(config: Mapping[str, Any], service: str) -> None:
    """Raise ConfigurationError, naming the key and the fix, unless ``service`` can run with these settings."""
    for key, kind in KINDS.items():
        read(config, key, kind)
    if config["ENVIRONMENT"] not in ENVIRONMENTS:
        raise ConfigurationError(f"ENVIRONMENT must be one of {', '.join(ENVIRONMENTS)}")
    ports = config.get("HTTP_PORTS") or {}
    if service not in ports:
        raise ConfigurationError(f"HTTP_PORTS has no port for the service {service}")
    read(ports, service, port)
    if (config.get("HTTPS_PORTS") or {}).get(service):
        read(config["HTTPS_PORTS"], service, port)
    broker_tls(config)
    for key in ("JWT_SECRET", "JWT_SECRET_PREVIOUS"):
        secret = config.get(key)
        if secret and len(str(secret).encode()) < SHORTEST_SECRET:
            raise ConfigurationError(f"{key} must have at least {SHORTEST_SECRET} bytes (RFC 7518, section 3.2)")
    if config["ENVIRONMENT"] == "production":
        _check_production(config)


def _check_production(config: Mapping[str, Any]) -> None:
    for key in ("JWT_SECRET", "JWT_SECRET_PREVIOUS"):
        if config.get(key) == DEVELOPMENT_SECRET:
            raise ConfigurationError(f"{key} is the development default: production needs a secret of its own")
    if unquote(urlsplit(config["AMQP_URI"]).username or "guest") == "guest":
        raise ConfigurationError("AMQP_URI uses the broker's guest account: production needs one user per service")
