"""A dependency provider whose injected type mypy knows.

Nameko replaces a provider that stands on a service class by what its ``get_dependency`` returns, once per worker. A
type checker sees only the provider, so :class:`Provider` tells it what an instance has: ``begin = UnitOfWork(Base)``
on the class, ``self.begin() -> Work`` in a method.
"""

from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from nameko.extensions import DependencyProvider

Injected = TypeVar("Injected")


class Provider(DependencyProvider, Generic[Injected]):
    """A Nameko dependency provider that injects an ``Injected``."""

    if TYPE_CHECKING:

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...

        @overload
        def __get__(self, instance: object, owner: type) -> Injected: ...

        def __get__(self, instance: object | None, owner: type) -> Any: ...

    def get_dependency(self, worker_ctx: Any) -> Injected:
        """What a worker finds under this attribute."""
        raise NotImplementedError
