"""Payments, the attempts made for each, and the events they cause.

Which move is legal says the table in ``transitions.py``. An answer of the processor moves only a payment that waits for
that kind of attempt, so a late or second charge answer is never taken for a refund.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypedDict, TypeVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, Identity, Index, Text, UniqueConstraint, Uuid, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from events import (
    OrderCancelledEvent,
    OrderEvent,
    PaymentFailedEvent,
    PaymentProcessedEvent,
    PaymentRefundedEvent,
    PaymentVoidedEvent,
    VoidOutcome,
    outcome_id,
)
from services.chassis.errors import Alarm
from services.chassis.tracing import Trace
from services.payments.transitions import EVENTS, TIMEOUT, WAITS, Answer, AttemptKind, Cell, PaymentStatus, Refused

MOST_CHARGES: Final = 5
"""After so many charge attempts without an answer the processor is asked to abandon the charge."""

LONGEST_PAUSE_SECONDS: Final = 30.0

Value = TypeVar("Value")


class Base(DeclarativeBase):
    """The tables of ``paymentservice_db``."""

    type_annotation_map: Final = {datetime: DateTime(timezone=True), UUID: Uuid, str: Text, int: BigInteger}


class Payment(Base):
    """The money of one order. Without amount when the order was cancelled before there was anything to charge."""

    __tablename__ = "payments"
    __table_args__ = (
        Index("payments_open", "next_attempt_at", postgresql_where=text("status IN ('processing', 'refunding')")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(unique=True)
    user_id: Mapped[UUID]
    status: Mapped[str]
    cancel_requested: Mapped[bool]
    amount_cents: Mapped[int | None]
    currency: Mapped[str | None]
    payment_method: Mapped[str | None]
    transaction_id: Mapped[str | None] = mapped_column(unique=True)
    refund_id: Mapped[str | None] = mapped_column(unique=True)
    reason: Mapped[str | None]
    correlation_id: Mapped[str]
    traceparent: Mapped[str | None]
    causation_id: Mapped[UUID]
    charge_attempts: Mapped[int]
    abandon_attempts: Mapped[int]
    refund_attempts: Mapped[int]
    refund_refused_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def is_open(self) -> bool:
        """Whether the processor still has to be asked for something."""
        return self.status in set(WAITS.values())

    def cancel(self, event: OrderCancelledEvent, *, at: datetime) -> Sequence[OrderEvent]:
        """Void what was not charged, give back what was; what was told of that before is told again."""
        found = EVENTS[type(event)][PaymentStatus(self.status)]
        if found.to or found.requests_cancel:
            self.status = found.to or self.status
            self.cancel_requested = True
            self.causation_id = event.event_id
            self.updated_at = at
        return self.tell(found, at=at)

    def tell(self, found: Cell, *, at: datetime) -> Sequence[OrderEvent]:
        """The events of the cell, about this payment."""
        about: About = {"occurred_at": at, "order_id": self.order_id, "user_id": self.user_id}
        return [_TELLERS[kind](self, about) for kind in found.tells]

    @property
    def void_outcome(self) -> VoidOutcome:
        """Why there is no money to give back."""
        if self.status == PaymentStatus.VOIDED:
            return VoidOutcome.NEVER_CHARGED
        return VoidOutcome.TIMEOUT if self.reason == TIMEOUT else VoidOutcome.DECLINED


class About(TypedDict):
    """What every event about a payment says."""

    occurred_at: datetime
    order_id: UUID
    user_id: UUID


def _processed(payment: Payment, about: About) -> OrderEvent:
    return PaymentProcessedEvent(
        **about,
        payment_id=payment.id,
        amount_cents=_known(payment.amount_cents),
        currency=_known(payment.currency),
        transaction_id=_known(payment.transaction_id),
    )


def _failed(payment: Payment, about: About) -> OrderEvent:
    return PaymentFailedEvent(**about, payment_id=payment.id, reason=_known(payment.reason))


def _voided(payment: Payment, about: About) -> OrderEvent:
    outcome = payment.void_outcome
    event_id = outcome_id(payment.order_id, f"PaymentVoidedEvent:{outcome}")
    return PaymentVoidedEvent(**about, event_id=event_id, outcome=outcome)


def _refunded(payment: Payment, about: About) -> OrderEvent:
    return PaymentRefundedEvent(
        **about,
        event_id=outcome_id(payment.order_id, "PaymentRefundedEvent:refunded"),
        payment_id=payment.id,
        refund_id=_known(payment.refund_id),
        amount_cents=_known(payment.amount_cents),
        currency=_known(payment.currency),
    )


_TELLERS: Final[dict[type[OrderEvent], Callable[[Payment, About], OrderEvent]]] = {
    PaymentProcessedEvent: _processed,
    PaymentFailedEvent: _failed,
    PaymentVoidedEvent: _voided,
    PaymentRefundedEvent: _refunded,
}


def _known(value: Value | None) -> Value:
    """The value, which the payment's status says it has and the database has checked."""
    if value is None:
        raise Alarm("a payment lacks what its status says it has")
    return value


class Attempt(Base):
    """One request to the processor, and what came of it. Kept for ever as it was: a trigger refuses to change it."""

    __tablename__ = "attempts"
    __table_args__ = (UniqueConstraint("payment_id", "kind", "number", name="attempts_number"),)

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(ForeignKey("payments.id"))
    kind: Mapped[str]
    number: Mapped[int]
    started_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    outcome: Mapped[str | None]


@dataclass(frozen=True)
class Request:
    """What to ask the processor now, claimed until ``lease_until``; ``number`` counts the attempts of its kind."""

    attempt_id: int
    payment_id: UUID
    order_id: UUID
    kind: AttemptKind
    number: int
    amount_cents: int
    currency: str
    payment_method: str
    transaction_id: str | None
    lease_until: datetime
    correlation_id: str
    traceparent: str | None
    causation_id: UUID

    @property
    def key(self) -> str:
        """What makes a repeated request the same one to the processor."""
        return f"{self.order_id}:refund" if self.kind is AttemptKind.REFUND else str(self.order_id)

    @property
    def trace(self) -> Trace:
        """Where the payment comes from."""
        return Trace(self.correlation_id, self.traceparent, self.causation_id)


@dataclass(frozen=True)
class Pace:
    """How long to wait before asking again: twice as long after each attempt, and much longer after a refusal."""

    retry_seconds: float
    refund_retry_seconds: float

    def pause_seconds(self, request: Request, answer: Answer) -> float:
        """How long after this request the next one may follow."""
        if isinstance(answer, Refused):
            return self.refund_retry_seconds
        return min(LONGEST_PAUSE_SECONDS, self.retry_seconds * 2.0 ** min(request.number - 1, 16))
