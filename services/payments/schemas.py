"""What payments' RPC returns, and the one id it takes."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from services.chassis.errors import NotFound
from services.chassis.journey import STEP
from services.chassis.schema import read_id
from services.payments.models import Attempt


def show_attempts(attempts: Iterable[Attempt]) -> list[dict[str, Any]]:
    """The attempts as steps of an order's journey."""
    return STEP.show_all(_as_step(attempt) for attempt in attempts)


def _as_step(attempt: Attempt) -> dict[str, Any]:
    return {
        "at": attempt.answered_at or attempt.started_at,
        "service": "payments",
        "event": attempt.kind,
        "event_id": None,
        "causation_id": None,
        "attempt": attempt.number,
        "outcome": attempt.outcome or "asked",
        "note": "the card processor",
    }


def read_order_id(text: object) -> UUID:
    """The id that the text writes. Raises NotFound: what is no id names no order."""
    return read_id(text, NotFound("order_not_found", "There is no such order."))
