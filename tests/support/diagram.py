"""The diagram of processes and data in ``docs/architecture.md``, drawn from the code: see :mod:`tests.support.pages`.

Processes are the services' classes, arrows their RPC proxies and event handlers, data their databases and caches.
"""

import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from cli.configuration import configuration
from cli.databases import DATABASES
from cli.services import SERVICES, service_classes
from cli.state import CHECKOUT
from services.chassis.cache import Cache
from services.chassis.denials import Denials
from services.chassis.http import HttpEntrypoint
from services.chassis.topology import Topology, Wiring, entrypoints_of, read_wiring
from services.chassis.work import UnitOfWork

OUTSIDE: Final = {"payments": "card processor,<br/>simulated", "notifications": "mail server,<br/>or the mailbox"}
"""What a service talks to that is none of ours; it does so in its room ``clients``."""

BREAK: Final = "<br/>"


def has(service: type, *kinds: type) -> bool:
    """Whether a provider of one of these kinds is among the service's attributes."""
    return bool(inspect.getmembers(service, lambda each: isinstance(each, kinds)))


def diagram(services: Sequence[type] | None = None) -> str:
    """Every process, what it keeps its data in, and every way one of them reaches another."""
    classes = service_classes() if services is None else services
    lines = [*processes(classes), *calls(map(read_wiring, classes)), *events(map(read_wiring, classes)), *data(classes)]
    return "\n".join(["```mermaid", "flowchart TB", *(f"    {line}" for line in lines), "```"])


def processes(services: Iterable[type]) -> Iterator[str]:
    """A box for each service with its port, and who comes in from outside."""
    for service in services:
        name = name_of(service)
        yield f'{name}["{name}{BREAK}port {configuration()["HTTP_PORTS"][name]}"]'
        if any(isinstance(each, HttpEntrypoint) for _, each in entrypoints_of(service)):
            yield f'client(["HTTP client"]) --> {name}'
        if (CHECKOUT / "services" / name / "clients.py").exists():
            yield f'{name} --> {name}_outside(["{OUTSIDE[name]}"])'


def calls(wirings: Iterable[Wiring]) -> Iterator[str]:
    """An arrow from each caller to each service it calls, with the methods."""
    for wiring in wirings:
        methods: dict[str, list[str]] = defaultdict(list)
        for call in wiring.calls:
            target, _, method = call.partition(".")
            methods[target].append(method)
        for target, named in methods.items():
            yield f'{wiring.name} -->|"{BREAK.join(named)}"| {target}'


def events(wirings: Iterable[Wiring]) -> Iterator[str]:
    """A dotted arrow from each publisher to each subscriber, with the events."""
    told: dict[tuple[str, str], list[str]] = defaultdict(list)
    for wiring in wirings:
        for each in wiring.subscriptions:
            told[each.source, each.service].append(each.event)
    for (source, target), named in told.items():
        yield f'{source} -. "{BREAK.join(sorted(named))}" .-> {target}'


def data(services: Iterable[type]) -> Iterator[str]:
    """A line from each service to its database, and to Redis where it keeps copies."""
    for service in services:
        name = name_of(service)
        if has(service, UnitOfWork):
            yield f'{name} --- {name}_db[("{DATABASES[name]}")]'
        if has(service, Cache, Denials):
            yield f'{name} --- redis[("Redis")]'


def name_of(service: Any) -> str:
    """What Nameko calls the service."""
    return str(service.name)


def queue_rows(topology: Topology) -> Iterator[list[str]]:
    """Every queue, in a row for each service that has some."""
    for service in SERVICES:
        own = [queue.name for queue in topology.queues if owner_of(queue.name) == service]
        if own:
            for_events = [name for name in own if name.startswith("evt-")]
            others = [name for name in own if name not in for_events]
            yield [service, *("<br>".join(f"`{name}`" for name in names) or "-" for names in (for_events, others))]


def owner_of(queue: str) -> str:
    """The service that a queue belongs to, as its name says."""
    return queue.rpartition("--")[2].removeprefix("rpc-").partition(".")[0]
