"""The six kinds of error that may cross RPC, and those that may not leave a message handler.

A caller sees a kind, a stable machine word and a sentence, never a stack trace. Nameko rebuilds a remote error from its
positional arguments, so the constructor takes nothing else, and only these classes are registered for it: the six
kinds, and the one Conflict that HTTP has a status of its own for.
"""

from collections.abc import Mapping
from typing import Any

from nameko.exceptions import deserialize_to_instance


class ServiceError(Exception):
    """A refusal that is part of the contract: ``code`` is a stable machine word, ``detail`` a sentence for a person.

    ``extra`` has further members of the problem document, such as ``errors``, ``allowed`` or ``retry_after`` (seconds);
    its values are plain JSON.
    """

    def __init__(self, code: str, detail: str, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(code, detail, dict(extra or {}))
        self.code = code
        self.detail = detail
        self.extra: dict[str, Any] = dict(extra or {})

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


@deserialize_to_instance
class NotFound(ServiceError):
    """There is no such thing, or the caller may not know that there is."""


@deserialize_to_instance
class Conflict(ServiceError):
    """The thing is not in a state that allows this."""


@deserialize_to_instance
class TooMany(Conflict):
    """The caller has as many of these as one may have at a time; ``extra["retry_after"]`` says when to look again."""


@deserialize_to_instance
class InvalidInput(ServiceError):
    """The input breaks a rule; ``extra["errors"]`` lists every ``{"pointer", "detail"}``."""


@deserialize_to_instance
class Unauthenticated(ServiceError):
    """No valid proof of who calls."""


@deserialize_to_instance
class Forbidden(ServiceError):
    """The caller is known and may not do this."""


@deserialize_to_instance
class Unavailable(ServiceError):
    """Something this needs is away for now; trying again later may work. A passing failure for an event."""


class TimedOut(Unavailable):
    """A service did not answer in time. Only raised in the calling process; on the wire it is Unavailable."""


class MalformedEvent(Exception):
    """A message that is not what its queue promises. Goes to the dead letters at once; the text never quotes it."""


class Alarm(Exception):
    """A transition that must never happen. Goes to the dead letters at once, with an error in the log."""
