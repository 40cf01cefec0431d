"""Which endpoints the gateway has, and which of them were asked for well."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR

from gateway import GatewayService
from services.chassis.http import HttpEntrypoint
from tests.support.cluster import Cluster

Route = tuple[str, str]


def endpoints() -> set[Route]:
    """Method and path of every endpoint of the API."""
    found = (getattr(each, ENTRYPOINT_EXTENSIONS_ATTR, ()) for each in vars(GatewayService).values())
    routes = {(each.method, each.url) for several in found for each in several if isinstance(each, HttpEntrypoint)}
    return {(method, path) for method, path in routes if path.startswith("/api/")}


@contextmanager
def watched(cluster: Cluster) -> Iterator[list[Route]]:
    """A list that has, after the block, the endpoints that gave good answers during it, each as often as it did."""
    log, reached = cluster.log("gateway"), list[Route]()
    before = log.stat().st_size
    yield reached
    reached += [(line["method"], line["route"]) for line in _requests(log, before) if line["status"] < 400]


def _requests(log: Path, start: int) -> Iterator[dict[str, Any]]:
    for line in log.read_bytes()[start:].decode().splitlines():
        if '"http_request"' in line:
            yield json.loads(line)
