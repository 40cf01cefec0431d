"""The card processor, simulated: it keeps its own book, answers as test cards do, and can be told to misbehave.

The book is the schema ``processor`` of the same database, on an engine of its own with commits of its own, so that a
crash between the processor and our record of its answer is a real one. A repeated key gets its first answer again. What
makes it misbehave are the payment method and the rows of ``processor.faults``; there is no chance in it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID, uuid5

import eventlet
from sqlalchemy import Connection, Engine, Row, create_engine, text
from sqlalchemy.exc import DBAPIError

from services.chassis.config import positive, read, whole
from services.chassis.database import PASSING, bound_waiting, engine_options, is_passing
from services.chassis.logs import get_logger
from services.chassis.provider import Provider
from services.payments.models import Request
from services.payments.transitions import Abandoned, Answer, AttemptKind, Charged, Declined, Refunded, Refused

log = get_logger(__name__)

RECEIPTS: Final = UUID("6f6d7300-0000-5000-8000-000000000005")
"""Namespace of transaction and refund ids: the same key always has the same receipt."""

SILENCE_SECONDS: Final = 60.0
"""How long a stalled call says nothing; whoever calls has given up long before."""

DECLINES: Final[Mapping[str, str]] = {"pm_declined": "insufficient_funds", "pm_fraud": "fraud"}
FAULTS: Final[Mapping[str, str]] = {"pm_timeout": "stall", "pm_slow": "slow", "pm_duplicate": "twice"}
METHODS: Final = frozenset({"pm_ok", "pm_error_then_ok", *DECLINES, *FAULTS})


class ProcessorUnreachable(Exception):
    """The processor could not be reached, or the connection broke: it may have done what was asked, or not."""


class CardProcessor:
    """Asks the processor, and waits for no answer longer than ``answer_seconds``."""

    def __init__(self, simulated: "SimulatedProcessor", answer_seconds: float) -> None:
        self.simulated = simulated
        self.answer_seconds = answer_seconds

    def ask(self, request: Request) -> Sequence[Answer]:
        """What the processor answered, more than once if it did so; nothing when no answer came in time."""
        deadline = eventlet.Timeout(self.answer_seconds)
        try:
            return self._call(request)
        except (eventlet.Timeout, ProcessorUnreachable) as error:
            if isinstance(error, eventlet.Timeout) and error is not deadline:
                raise
            log.warning("processor_silent", kind=request.kind, number=request.number, order_id=str(request.order_id))
            return ()
        finally:
            deadline.cancel()

    def _call(self, request: Request) -> Sequence[Answer]:
        if request.kind is AttemptKind.CHARGE:
            amount = (request.amount_cents, request.currency)
            return self.simulated.charge(request.key, *amount, request.payment_method)
        if request.kind is AttemptKind.ABANDON:
            return self.simulated.abandon(request.key)
        return self.simulated.refund(request.key, str(request.transaction_id), request.amount_cents)


class SimulatedProcessor:
    """A processor without cards. Every method returns its answers: one, or two when it stutters."""

    def __init__(self, engine: Engine, slow_seconds: float) -> None:
        self.engine = engine
        self.slow_seconds = slow_seconds

    def charge(self, key: str, amount_cents: int, currency: str, method: str) -> Sequence[Answer]:
        """Take the money once for the key. Raises ProcessorUnreachable when the line breaks, before or after it did."""
        row = {"key": key, "amount_cents": amount_cents, "currency": currency, "payment_method": method}
        return self._answer("charge", key, method, _BOOK_CHARGE, {**row, **_judged(key, method)})

    def abandon(self, key: str) -> Sequence[Answer]:
        """What the key's charge came to; where there is none, the promise that there never will be one."""
        nothing = {"amount_cents": None, "currency": None, "payment_method": None, "transaction_id": None}
        row = nothing | {"key": key, "outcome": "abandoned", "reason": None}
        return self._answer("abandon", key, "", _BOOK_CHARGE, row)

    def refund(self, key: str, transaction_id: str, amount_cents: int) -> Sequence[Answer]:
        """Give the money of a charge back, once for the key and never more than was taken."""
        row = {"key": key, "transaction_id": transaction_id, "amount_cents": amount_cents}
        return self._answer("refund", key, "", _BOOK_REFUND, row | {"refund_id": _receipt("re", key)})

    def _answer(self, call: str, key: str, method: str, book: Any, row: Mapping[str, Any]) -> Sequence[Answer]:
        try:
            with self.engine.begin() as connection:
                fault = _fault(connection, call, key, method)
                if fault in ("stall", "fail", "refuse"):
                    answer: Answer = Refused()
                else:
                    answer, is_new = _booked(connection, book, row)
                    fault = "" if fault == "slow" and not is_new else fault
        except (*PASSING, DBAPIError) as error:
            if not is_passing(error):
                raise
            raise ProcessorUnreachable(type(error).__name__) from error
        return self._deliver(answer, fault)

    def _deliver(self, answer: Answer, fault: str) -> Sequence[Answer]:
        if fault == "stall":
            eventlet.sleep(SILENCE_SECONDS)
        if fault in ("stall", "fail", "lose"):
            raise ProcessorUnreachable(fault)
        if fault == "slow":
            eventlet.sleep(self.slow_seconds)
        return (answer, answer) if fault == "twice" else (answer,)


_BOOK_CHARGE: Final = (
    text(
        """
        INSERT INTO processor.charges
            (key, outcome, transaction_id, reason, amount_cents, currency, payment_method)
        VALUES (:key, :outcome, :transaction_id, :reason, :amount_cents, :currency, :payment_method)
        ON CONFLICT (key) DO NOTHING
        RETURNING outcome, transaction_id, reason, true AS is_new
        """
    ),
    text("SELECT outcome, transaction_id, reason, false AS is_new FROM processor.charges WHERE key = :key"),
)
_BOOK_REFUND: Final = (
    text(
        """
        INSERT INTO processor.refunds (key, transaction_id, refund_id, amount_cents)
        SELECT :key, transaction_id, :refund_id, :amount_cents FROM processor.charges
        WHERE transaction_id = :transaction_id AND amount_cents >= :amount_cents
        ON CONFLICT DO NOTHING
        RETURNING 'refunded' AS outcome, refund_id, true AS is_new
        """
    ),
    text("SELECT 'refunded' AS outcome, refund_id, false AS is_new FROM processor.refunds WHERE key = :key"),
)
_USE_FAULT: Final = text(
    """
    UPDATE processor.faults SET times = times - 1
    WHERE id = (
        SELECT id FROM processor.faults WHERE target IN (:key, :method) AND call = :call AND times > 0
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING kind
    """
)
_FIRST_TRY: Final = text("INSERT INTO processor.tries (key) VALUES (:key) ON CONFLICT DO NOTHING RETURNING key")


def _fault(connection: Connection, call: str, key: str, method: str) -> str:
    """How this call goes wrong; empty when it does not."""
    told: str | None = connection.scalar(_USE_FAULT, {"key": key, "method": method, "call": call})
    if told or call != "charge":
        return told or ""
    if method == "pm_error_then_ok" and connection.scalar(_FIRST_TRY, {"key": key}):
        return "fail"
    return FAULTS.get(method, "")


def _booked(connection: Connection, book: Any, row: Mapping[str, Any]) -> tuple[Answer, bool]:
    """The key's answer, which is the first it ever got, and whether it is new."""
    enter, look_up = book
    entry = (
        connection.execute(enter, row).one_or_none() or connection.execute(look_up, {"key": row["key"]}).one_or_none()
    )
    return (Refused(), True) if entry is None else (_read(entry), bool(entry.is_new))


def _read(entry: Row[Any]) -> Answer:
    """A line of the book as an answer."""
    if entry.outcome == "charged":
        return Charged(entry.transaction_id)
    if entry.outcome == "declined":
        return Declined(entry.reason)
    return Refunded(entry.refund_id) if entry.outcome == "refunded" else Abandoned()


def _judged(key: str, method: str) -> dict[str, object]:
    """What the processor makes of a new charge."""
    reason = DECLINES.get(method) if method in METHODS else "unknown_payment_method"
    if reason:
        return {"outcome": "declined", "transaction_id": None, "reason": reason}
    return {"outcome": "charged", "transaction_id": _receipt("ch", key), "reason": None}


def _receipt(kind: str, key: str) -> str:
    return f"{kind}_{uuid5(RECEIPTS, key).hex}"


class Processor(Provider[CardProcessor]):
    """Injects the :class:`CardProcessor`, with an engine that is its own."""

    def setup(self) -> None:
        """Make the engine; connects to nothing yet."""
        config = self.container.config
        options = engine_options(read(config, "PROCESSOR_AT_ONCE", whole), "oms-processor")
        self.engine = create_engine(config["DB_URIS"]["payments:Base"], **options)
        bound_waiting(self.engine)
        simulated = SimulatedProcessor(self.engine, read(config, "PROCESSOR_SLOW_SECONDS", positive))
        self.processor = CardProcessor(simulated, read(config, "PROCESSOR_ANSWER_SECONDS", positive))

    def stop(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def get_dependency(self, worker_ctx: Any) -> CardProcessor:
        """The same processor for every worker."""
        return self.processor
