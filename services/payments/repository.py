"""Every query of payments, but those of the simulated processor's own book.

Nobody holds a lock while the processor thinks: a claim leaves a lease, and an answer is recorded by an update on the
condition that the payment still waits for it. Leases and pauses go by the database's clock.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import case, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from events import InventoryReservedEvent, OrderCancelledEvent, OrderEvent
from services.chassis.evidence import BATCH, prune_orders
from services.chassis.repository import Repository
from services.chassis.tracing import Trace
from services.chassis.worker import Claimed
from services.payments.models import MOST_CHARGES, Attempt, Pace, Payment, Request
from services.payments.transitions import (
    ANSWERS,
    EVENTS,
    WAITS,
    Answer,
    AttemptKind,
    Cell,
    PaymentStatus,
    Refused,
    Unanswered,
)

_OPEN: Final = sorted(set(WAITS.values()))

_CLAIM: Final = text(
    """
    WITH due AS (
        SELECT id,
            CASE WHEN status = :refunding THEN 'refund' WHEN charge_attempts < :most_charges THEN 'charge'
            ELSE 'abandon' END AS kind
        FROM payments
        WHERE status = ANY(:open)
          AND next_attempt_at <= clock_timestamp()
          AND (lease_until IS NULL OR lease_until <= clock_timestamp())
        ORDER BY next_attempt_at
        LIMIT :most
        FOR NO KEY UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE payments
        SET lease_until = clock_timestamp() + make_interval(secs => :lease_seconds),
            charge_attempts = charge_attempts + (due.kind = 'charge')::int,
            abandon_attempts = abandon_attempts + (due.kind = 'abandon')::int,
            refund_attempts = refund_attempts + (due.kind = 'refund')::int
        FROM due
        WHERE payments.id = due.id
        RETURNING payments.*, due.kind
    ), begun AS (
        INSERT INTO attempts (payment_id, kind, number, started_at)
        SELECT id, kind,
            CASE kind WHEN 'charge' THEN charge_attempts WHEN 'abandon' THEN abandon_attempts ELSE refund_attempts END,
            clock_timestamp()
        FROM claimed
        RETURNING id, payment_id, number
    )
    SELECT begun.id AS attempt_id, begun.payment_id, begun.number, claimed.order_id, claimed.kind, claimed.amount_cents,
        claimed.currency, claimed.payment_method, claimed.transaction_id, claimed.lease_until, claimed.correlation_id,
        claimed.traceparent, claimed.causation_id
    FROM begun JOIN claimed ON claimed.id = begun.payment_id
    """
)


@dataclass(frozen=True)
class Recorded:
    """What an answer came to: the events it caused, whether the processor must be asked again, a first refusal."""

    events: Sequence[OrderEvent] = ()
    is_open: bool = False
    is_first_refusal: bool = False


class PaymentRepository(Repository):
    """The money of every order."""

    def open(self, event: InventoryReservedEvent, *, trace: Trace, at: datetime) -> None:
        """Let the order be charged, unless payments has heard of it before."""
        asked = {
            "amount_cents": event.total_cents,
            "currency": event.currency,
            "payment_method": event.payment_method,
        }
        self._add(event, asked, trace, at)

    def get_or_void(self, event: OrderCancelledEvent, *, trace: Trace, at: datetime) -> Payment:
        """The cancelled order's payment, locked; where there is none, a voided one, so that none is ever charged."""
        self._add(event, {"cancel_requested": True}, trace, at)
        query = select(Payment).where(Payment.order_id == event.order_id).with_for_update(key_share=True)
        return self.session.scalars(query).one()

    def _add(self, event: OrderEvent, values: dict[str, Any], trace: Trace, at: datetime) -> None:
        row = {
            "id": uuid4(),
            "order_id": event.order_id,
            "user_id": event.user_id,
            "status": EVENTS[type(event)][None].to,
            "correlation_id": trace.correlation_id,
            "traceparent": trace.traceparent,
            "causation_id": event.event_id,
            "created_at": at,
            "updated_at": at,
        }
        new = insert(Payment).values(row | values)
        self.session.execute(new.on_conflict_do_nothing(index_elements=[Payment.order_id]))

    def claim(self, most: int, *, lease_seconds: float) -> Claimed[Request]:
        """Up to ``most`` requests that are due, each noted as an attempt and nobody else's until its lease runs out."""
        parameters = {
            "open": _OPEN,
            "refunding": PaymentStatus.REFUNDING,
            "most_charges": MOST_CHARGES,
            "most": most,
            "lease_seconds": lease_seconds,
        }
        rows = self.session.execute(_CLAIM, parameters).mappings().all()
        requests = [Request(**{**row, "kind": AttemptKind(row["kind"])}) for row in rows]
        return Claimed(requests, None if len(requests) == most else self._next_in_seconds())

    def _next_in_seconds(self) -> float | None:
        due = func.min(func.greatest(Payment.next_attempt_at, Payment.lease_until))
        query = select(func.extract("epoch", due - func.clock_timestamp())).where(Payment.status.in_(_OPEN))
        seconds = self.session.scalar(query)
        return None if seconds is None else float(seconds)

    def record(self, request: Request, answer: Answer, *, pace: Pace, at: datetime) -> Recorded:
        """Note the answer and let it move the payment, if that still waits for it; a later answer changes nothing."""
        self._note(request, answer, at)
        found = ANSWERS[request.kind][type(answer)]
        if found.to is None:
            return self._put_off(request, answer, pace.pause_seconds(request, answer), at)
        return self._move(request, answer, found, at)

    def _note(self, request: Request, answer: Answer, at: datetime) -> None:
        answered_at = None if isinstance(answer, Unanswered) else at
        mine = update(Attempt).where(Attempt.id == request.attempt_id, Attempt.outcome.is_(None))
        self.session.execute(mine.values(outcome=type(answer).__name__.lower(), answered_at=answered_at))

    def _move(self, request: Request, answer: Answer, found: Cell, at: datetime) -> Recorded:
        status = case((Payment.cancel_requested, found.cell_for(cancelled=True).to), else_=found.to)
        waiting = update(Payment).where(Payment.id == request.payment_id, Payment.status == WAITS[request.kind])
        moved = waiting.values(
            **asdict(answer), status=status, lease_until=None, next_attempt_at=func.clock_timestamp(), updated_at=at
        )
        payment = self._updated(moved)
        if payment is None:
            return Recorded()
        events = payment.tell(found.cell_for(cancelled=payment.cancel_requested), at=at)
        return Recorded(events, is_open=payment.is_open)

    def _put_off(self, request: Request, answer: Answer, pause_seconds: float, at: datetime) -> Recorded:
        """Release the lease, if it is still ours, and let nobody ask again before the pause is over."""
        waiting = update(Payment).where(Payment.id == request.payment_id, Payment.status == WAITS[request.kind])
        later = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, pause_seconds)
        paused = waiting.where(Payment.lease_until == request.lease_until).values(
            lease_until=None, next_attempt_at=later
        )
        if isinstance(answer, Refused):
            paused = paused.values(refund_refused_at=func.coalesce(Payment.refund_refused_at, at))
        payment = self._updated(paused)
        if payment is None:
            return Recorded()
        is_first_refusal = isinstance(answer, Refused) and payment.refund_refused_at == at
        return Recorded(is_open=True, is_first_refusal=is_first_refusal)

    def _updated(self, statement: Any) -> Payment | None:
        options = {"synchronize_session": False, "populate_existing": True}
        return self.session.scalars(statement.returning(Payment), execution_options=options).one_or_none()

    def prune(self) -> bool:
        """Drop some of the evidence that was kept long enough; whether there may be more."""
        over = select(Payment.order_id).where(Payment.status.not_in(_OPEN))
        return prune_orders(self.session, over) == BATCH

    def find_by_order(self, order_id: UUID) -> Payment | None:
        """The order's payment, if payments has heard of the order."""
        return self.session.scalars(select(Payment).where(Payment.order_id == order_id)).one_or_none()

    def list_attempts(self, payment_id: UUID) -> Sequence[Attempt]:
        """Every attempt made for the payment, in the order they were begun."""
        return self.session.scalars(select(Attempt).where(Attempt.payment_id == payment_id).order_by(Attempt.id)).all()
