"""What belongs together: the correlation id and the W3C trace of a request, carried through every RPC and event."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from uuid import UUID, uuid4

CORRELATION: Final = "correlation_id"
TRACEPARENT: Final = "traceparent"

_SANE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def sane_correlation_id(value: object) -> str | None:
    """The value when it may serve as a correlation id (1-64 of ``A-Za-z0-9._-``), else None."""
    return value if isinstance(value, str) and _SANE.fullmatch(value) else None


def sane_traceparent(value: object) -> str | None:
    """The value when it is a W3C trace context of version 00, else None."""
    return value if isinstance(value, str) and _TRACEPARENT.fullmatch(value) else None


@dataclass(frozen=True)
class Trace:
    """Where a piece of work comes from; ``causation_id`` is the event that caused it, if one did."""

    correlation_id: str
    traceparent: str | None = None
    causation_id: UUID | None = None

    @classmethod
    def of(cls, context: Mapping[str, Any], causation_id: UUID | None = None) -> Self:
        """The trace in a worker's context; begins a new one where there is none that can be trusted."""
        return cls(
            sane_correlation_id(context.get(CORRELATION)) or str(uuid4()),
            sane_traceparent(context.get(TRACEPARENT)),
            causation_id,
        )
