"""Entity tags and the writes that depend on them (RFC 9110): nobody overwrites what they have not seen.

A tag names exactly the bytes of one representation. The gateway hangs it on what it sends; a service that is asked to
write only over that representation makes the same bytes anew, of the row that it has locked, and compares.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from services.chassis import wire
from services.chassis.errors import Conflict


def entity_tag(representation: bytes) -> str:
    """The strong ETag of exactly these bytes."""
    return f'"{blake2b(representation, digest_size=16).hexdigest()}"'


def names(condition: str, tag: str, *, weakly: bool = False) -> bool:
    """Whether the condition, a list of tags or ``*``, names this tag; ``weakly`` overlooks that one is weak."""
    if condition.strip() == "*":
        return True
    listed = (each.strip() for each in condition.split(","))
    return tag in (each.removeprefix("W/") if weakly else each for each in listed)


def require_match(if_match: str | None, view: Mapping[str, Any]) -> None:
    """Raise Conflict ``precondition_failed`` unless the caller knows this view; whoever says nothing passes."""
    if if_match is not None and not names(if_match, entity_tag(wire.encode(view))):
        raise Conflict("precondition_failed", "It is not any more as If-Match says; read it again.")
