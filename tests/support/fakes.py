"""What stands around a service in tests that drive it without a broker: callers, a bell, a cache, a desk, the rest."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, uuid4

from nameko.extensions import is_dependency

from services.chassis.auth import Principal

Service = TypeVar("Service")

MOST_FAILURES: Final = 5


def a_caller(role: str = "customer", user_id: UUID | None = None) -> Principal:
    """Somebody whose token was verified."""
    expires_at = datetime(2026, 1, 2, 4, 0, 0, tzinfo=UTC)
    return Principal(user_id=user_id or uuid4(), role=role, jti=uuid4(), family=uuid4(), expires_at=expires_at)


class Bell:
    """Stands for the relay or a worker: counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        """Note it."""
        self.woken += 1


class FakeCopies:
    """A cache that keeps nothing and remembers what was invalidated."""

    def __init__(self) -> None:
        self.invalidated: list[str] = []

    def get_or_load(self, key: str, ttl_seconds: float, load: Any) -> Any:
        """Always loads."""
        return load()

    def invalidate(self, *keys: str) -> None:
        """Note them."""
        self.invalidated += keys


class Desk:
    """Where messages are acknowledged, given back, put off and given up; ``fates`` says in which order."""

    def __init__(self) -> None:
        self.fates: list[str] = []
        self.most_failures = MOST_FAILURES

    def ack_message(self, _: object) -> None:
        """The broker forgets it."""
        self.fates.append("acknowledged")

    def requeue_message(self, _: object) -> None:
        """The broker delivers it again, at once."""
        self.fates.append("given back")

    def later(self, *_: object) -> None:
        """To a retry queue."""
        self.fates.append("put off")

    def bury(self, *_: object) -> None:
        """To the dead letters."""
        self.fates.append("given up")


class Container:
    """What providers ask of the container they are bound to."""

    def __init__(self, service_name: str, config: Mapping[str, Any]) -> None:
        self.service_name = service_name
        self.config = config
        self.shared_extensions: dict[type, Any] = {}


class Instance(Generic[Service]):
    """One instance of a service with its real providers, but for those of the kinds in ``without``.

    It holds its container, which providers know only weakly.
    """

    def __init__(self, service: type[Service], config: Mapping[str, Any], *without: type) -> None:
        self.service = service
        self.container = Container(service.name, config)  # type: ignore[attr-defined] # Nameko insists on a name
        wired = {name: each for name, each in vars(service).items() if is_dependency(each)}
        self.providers: dict[str, Any] = {
            name: each.bind(self.container, name) for name, each in wired.items() if not isinstance(each, without)
        }
        for provider in self.providers.values():
            provider.setup()

    def worker(self, token: str | None = None) -> Service:
        """The service as it runs one call of whoever has this token."""
        context = SimpleNamespace(data={"auth_token": token} if token else {})
        worker = self.service()
        for name, provider in self.providers.items():
            setattr(worker, name, provider.get_dependency(context))
        return worker
