"""What must exist in the broker for a set of services, derived from their own handlers and RPC proxies.

:func:`derive` is the only place that knows it: exchanges, queues with their arguments, bindings, and one broker user
per service that may do exactly what its code does. It declares nothing; ``./oms topology`` does, over the management
API. Services only look whether it is there.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR, Extension

from services.chassis.broker import RPC_EXCHANGE
from services.chassis.dead_letters import DeadLetters
from services.chassis.letter import DELIVERY_LIMIT
from services.chassis.messaging import EventHandler
from services.chassis.rpc import Rpc
from services.chassis.rpc_proxy import RpcProxy
from services.chassis.work import UnitOfWork

OPERATOR: Final = "operator"
_SHELL_REPLIES: Final = r"rpc\.reply-standalone_rpc_proxy-[0-9a-f-]+"
LOOKS: Final = 10**9
"""How often dead letters may be looked at, each look being a delivery: RabbitMQ 4 would drop them after 20."""

DISCARDED_MS: Final = 45 * 24 * 3600 * 1000
"""How long a discarded dead letter is kept: longer than anybody asks what became of its event."""


@dataclass(frozen=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    """A durable queue."""

    name: str
    durable: bool = True
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Binding:
    """What an exchange passes on to a queue."""

    exchange: str
    queue: str
    routing_key: str = ""


@dataclass(frozen=True)
class TopicPermission:
    """Which routing keys a user may write to and bind from a topic exchange: regular expressions."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True)
class User:
    """A broker user and what it may configure, write and read: regular expressions on names."""

    name: str
    configure: str
    write: str
    read: str
    topic_permissions: tuple[TopicPermission, ...] = ()
    tags: str = ""
    """What it may ask the management API, by RabbitMQ's own names."""


@dataclass(frozen=True)
class Topology:
    """Everything that must exist."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    users: tuple[User, ...]


@dataclass(frozen=True)
class Subscription:
    """One handler's interest in one event."""

    source: str
    event: str
    service: str
    method: str

    @property
    def queue(self) -> str:
        """The queue's name, as Nameko makes it."""
        return f"evt-{self.source}-{self.event}--{self.service}.{self.method}"


@dataclass(frozen=True)
class Wiring:
    """What one service's code says about its place among the others."""

    name: str
    subscriptions: tuple[Subscription, ...]
    methods: tuple[str, ...]
    calls: tuple[str, ...]
    publishes: bool
    shows_dead_letters: bool = False


def read_wiring(service: type) -> Wiring:
    """The handlers, RPC methods, RPC calls and outbox of a service class."""
    name: str = service.name  # type: ignore[attr-defined] # Nameko insists on a name
    entrypoints = list(entrypoints_of(service))
    providers = [each for _, each in inspect.getmembers(service, lambda each: isinstance(each, Extension))]
    return Wiring(
        name=name,
        subscriptions=tuple(
            Subscription(each.source_service, each.event_type, name, method)
            for method, each in entrypoints
            if isinstance(each, EventHandler)
        ),
        methods=tuple(f"{name}.{method}" for method, each in entrypoints if isinstance(each, Rpc)),
        calls=tuple(
            f"{each.target_service}.{method}"
            for each in providers
            if isinstance(each, RpcProxy)
            for method in sorted(each.methods)
        ),
        publishes=any(isinstance(each, UnitOfWork) and each.publishes for each in providers),
        shows_dead_letters=any(isinstance(each, DeadLetters) for each in providers),
    )


def entrypoints_of(service: type) -> Iterator[tuple[str, Extension]]:
    """What calls the methods of a service class: each method's name, and what calls it."""
    for name, method in inspect.getmembers(service, inspect.isfunction):
        for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
            yield name, entrypoint


def derive(services: Iterable[type], delays_ms: Sequence[int]) -> Topology:
    """The topology of these services; ``delays_ms`` are the distances at which a failed event comes again."""
    wirings = sorted((read_wiring(service) for service in services), key=lambda wiring: wiring.name)
    exchanges = [Exchange(RPC_EXCHANGE, "topic")]
    queues: list[Queue] = []
    bindings: list[Binding] = []
    for wiring in wirings:
        exchanges += _exchanges(wiring, delays_ms)
        queues += _queues(wiring, delays_ms)
        bindings += _bindings(wiring, delays_ms)
    users = [_user(wiring, wirings) for wiring in wirings]
    return Topology(tuple(exchanges), tuple(queues), tuple(bindings), (*users, _operator(wirings)))


def _consumes(wiring: Wiring) -> bool:
    return bool(wiring.subscriptions or wiring.methods)


def _exchanges(wiring: Wiring, delays_ms: Sequence[int]) -> Iterator[Exchange]:
    if wiring.publishes:
        yield Exchange(f"{wiring.name}.events", "topic")
    if _consumes(wiring):
        yield Exchange(f"{wiring.name}.dead-letters", "fanout")
        yield Exchange(f"{wiring.name}.discarded", "fanout")
        yield Exchange(f"{wiring.name}.redeliver", "direct")
        for delay in delays_ms:
            yield Exchange(f"{wiring.name}.retry.{delay}", "fanout")


def _queues(wiring: Wiring, delays_ms: Sequence[int]) -> Iterator[Queue]:
    quorum = {"x-queue-type": "quorum"}
    moves_safely = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    for each in wiring.subscriptions:
        gives_up = {"x-delivery-limit": DELIVERY_LIMIT, "x-dead-letter-exchange": f"{wiring.name}.dead-letters"}
        yield Queue(each.queue, arguments=quorum | moves_safely | gives_up)
    if wiring.methods:
        yield Queue(f"rpc-{wiring.name}", arguments=quorum)  # a classic one is gone for as long as its node
    if _consumes(wiring):
        looked_at = quorum | {"x-delivery-limit": LOOKS}
        yield Queue(f"{wiring.name}.dead-letters", arguments=looked_at)
        yield Queue(f"{wiring.name}.discarded", arguments=looked_at | {"x-message-ttl": DISCARDED_MS})
        for delay in delays_ms:
            waits = {"x-message-ttl": delay, "x-dead-letter-exchange": f"{wiring.name}.redeliver"}
            yield Queue(f"{wiring.name}.retry.{delay}", arguments=quorum | moves_safely | waits)


def _bindings(wiring: Wiring, delays_ms: Sequence[int]) -> Iterator[Binding]:
    for each in wiring.subscriptions:
        yield Binding(f"{each.source}.events", each.queue, each.event)
        yield Binding(f"{wiring.name}.redeliver", each.queue, each.queue)
    if wiring.methods:
        yield Binding(RPC_EXCHANGE, f"rpc-{wiring.name}", f"{wiring.name}.*")
    if _consumes(wiring):
        yield Binding(f"{wiring.name}.dead-letters", f"{wiring.name}.dead-letters")
        yield Binding(f"{wiring.name}.discarded", f"{wiring.name}.discarded")
        for delay in delays_ms:
            yield Binding(f"{wiring.name}.retry.{delay}", f"{wiring.name}.retry.{delay}")


def _any_of(patterns: Iterable[str]) -> str:
    """A regular expression for these and nothing else; for no pattern, one that matches nothing."""
    found = sorted(set(patterns))
    return f"^({'|'.join(found)})$" if found else "^$"


def _user(wiring: Wiring, all_of_them: Sequence[Wiring]) -> User:
    name = re.escape(wiring.name)
    reply_queue = rf"rpc\.reply-{name}-[0-9a-f-]+"
    asks, answers = bool(wiring.calls), bool(wiring.methods)
    writes = [rf"{name}\.events"] if wiring.publishes else []
    reads = [re.escape(each.queue) for each in wiring.subscriptions]
    if _consumes(wiring):
        writes += [rf"{name}\.retry\.[0-9]+", rf"{name}\.dead-letters"]
    if wiring.shows_dead_letters:
        writes += [rf"{name}\.redeliver", rf"{name}\.discarded"]
        reads.append(rf"{name}\.dead-letters")
    if answers:
        reads.append(f"rpc-{name}")
    if asks:
        writes.append(reply_queue)
        reads += [reply_queue, RPC_EXCHANGE]
    if asks or answers:
        writes.append(RPC_EXCHANGE)
    callers = {each.name for each in all_of_them for call in each.calls if call in wiring.methods}
    keys = [re.escape(call) for call in wiring.calls]
    keys += [rf"reply\.{re.escape(caller)}\.[0-9a-f-]+" for caller in callers]
    topics = [TopicPermission(RPC_EXCHANGE, _any_of(keys), rf"^reply\.{name}\.[0-9a-f-]+$" if asks else "^$")]
    if wiring.publishes:
        topics.append(TopicPermission(f"{wiring.name}.events", "^[A-Za-z]+$", "^$"))
    configures = [reply_queue] if asks else []
    return User(wiring.name, _any_of(configures), _any_of(writes), _any_of(reads), tuple(topics))


def _operator(wirings: Sequence[Wiring]) -> User:
    """Who may dispatch events by hand, see to dead letters, and see over the management API what exists.

    ``nameko shell`` declares a reply queue and the RPC exchange before it says a word, so that must succeed; calling is
    not the operator's business all the same.
    """
    configures = [_SHELL_REPLIES, RPC_EXCHANGE]
    writes = [rf"{re.escape(each.name)}\.events" for each in wirings if each.publishes]
    consumers = [re.escape(each.name) for each in wirings if _consumes(each)]
    writes += [rf"{name}\.{where}" for name in consumers for where in ("redeliver", "discarded")]
    reads = [rf"{name}\.{where}" for name in consumers for where in ("dead-letters", "discarded")]
    writes, reads = [*writes, _SHELL_REPLIES], [*reads, *configures]
    return User(OPERATOR, _any_of(configures), _any_of(writes), _any_of(reads), tags="management")
