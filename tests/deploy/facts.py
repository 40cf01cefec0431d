"""What the code itself says about variables, caches and routes, for comparing the deployments with it."""

import ast
import inspect
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

from cli.services import SERVICES, service_classes
from services.chassis.cache import Cache
from services.chassis.denials import Denials
from services.chassis.http import HttpEntrypoint
from services.chassis.topology import entrypoints_of

CHECKOUT: Final = Path(__file__).resolve().parents[2]
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::[^}]*)?\}")
FROM_THE_CODE: Final = re.compile(r"(OMS|HTTP|DATABASE|ADMIN|JWT|REDIS|AMQP)_[A-Z_]+")


@cache
def configured() -> frozenset[str]:
    """Every variable that config.yaml reads."""
    lines = [line.partition(" #")[0] for line in (CHECKOUT / "config.yaml").read_text().splitlines()]
    return frozenset(VARIABLE.findall("\n".join(line for line in lines if not line.startswith("#"))))


@cache
def environment_variables() -> frozenset[str]:
    """Every variable that config.yaml reads, or that the code asks the environment for by name."""
    named = {
        each.value
        for folder in ("cli", "services")
        for file in (CHECKOUT / folder).rglob("*.py")
        for each in ast.walk(ast.parse(file.read_text()))
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and FROM_THE_CODE.fullmatch(each.value)
    }
    return configured() | named


@cache
def cache_users() -> frozenset[str]:
    """The services that keep something in Redis."""
    return frozenset(
        each.name  # type: ignore[attr-defined] # Nameko insists on a name
        for each in service_classes()
        if inspect.getmembers(each, lambda member: isinstance(member, Cache | Denials))
    )


@cache
def http_routes() -> frozenset[str]:
    """The paths of the gateway."""
    gateway: Any = service_classes()[list(SERVICES).index("gateway")]
    return frozenset(
        entrypoint.url for _, entrypoint in entrypoints_of(gateway) if isinstance(entrypoint, HttpEntrypoint)
    )
