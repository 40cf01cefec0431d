"""What payments' RPC returns, and the one id it takes."""

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from services.chassis.errors import NotFound
from services.chassis.journey import Step
from services.payments.models import Attempt

STEP: Final = Step()


def show_attempts(attempts: Iterable[Attempt]) -> list[dict[str, Any]]:
    """The attempts as steps of an order's journey."""
    steps: list[dict[str, Any]] = [STEP.dump(_as_step(attempt)) for attempt in attempts]
    return steps


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
    try:
        return UUID(str(text))
    except ValueError:
        raise NotFound("order_not_found", "There is no such order.") from None
