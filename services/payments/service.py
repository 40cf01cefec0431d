"""Payments' entrypoints: two events ask for money to be taken or given back, a worker asks the processor for it."""

from functools import partial
from typing import Any

from prometheus_client import Counter

from events import InventoryReservedEvent, OrderCancelledEvent
from services.chassis.auth import Caller
from services.chassis.config import Setting, positive
from services.chassis.dead_letters import with_dead_letters
from services.chassis.errors import ServiceError
from services.chassis.journey import list_steps
from services.chassis.logs import get_logger
from services.chassis.messaging import event_handler
from services.chassis.probes import Probes
from services.chassis.rpc import rpc
from services.chassis.timer import timer
from services.chassis.work import UnitOfWork, Work
from services.chassis.worker import Claimed, Waker, worker
from services.payments.clients import Processor
from services.payments.models import Base, Pace, Request
from services.payments.repository import PaymentRepository
from services.payments.schemas import read_order_id, show_attempts
from services.payments.transitions import Unanswered

log = get_logger(__name__)

REFUNDS_REFUSED = Counter("oms_refunds_refused_total", "Refunds the processor refused, each counted once")


@with_dead_letters
class PaymentsService:
    """What was charged for an order, and what was given back."""

    name = "payments"

    begin = UnitOfWork(Base)
    caller = Caller()
    probes = Probes()
    processor = Processor()
    attempts = Waker("make_attempt")
    lease_seconds = Setting("PROCESSOR_LEASE_SECONDS", positive)
    retry_seconds = Setting("PROCESSOR_RETRY_SECONDS", positive)
    refund_retry_seconds = Setting("REFUND_RETRY_SECONDS", positive)

    @event_handler("inventory", InventoryReservedEvent)
    def on_inventory_reserved(self, event: InventoryReservedEvent, work: Work) -> None:
        """Let the order be charged, once; the worker does it as soon as this is committed."""
        PaymentRepository(work.session).open(event, trace=work.trace, at=work.now)
        work.after_commit(self.attempts.wake)

    @event_handler("orders", OrderCancelledEvent)
    def on_order_cancelled(self, event: OrderCancelledEvent, work: Work) -> None:
        """See to it that the order's money is never taken, or goes back, and say so once that is certain."""
        payment = PaymentRepository(work.session).get_or_void(event, trace=work.trace, at=work.now)
        work.publish(*payment.cancel(event, at=work.now))
        work.after_commit(self.attempts.wake)

    def claim_attempts(self, most: int) -> Claimed[Request]:
        """What the processor is to be asked now, up to ``most`` requests that nobody else will make meanwhile."""
        with self.begin() as work:
            return PaymentRepository(work.session).claim(most, lease_seconds=self.lease_seconds)

    @worker(claim="claim_attempts", sweep="PROCESSOR_SWEEP_SECONDS", at_once="PROCESSOR_AT_ONCE")
    def make_attempt(self, request: Request) -> None:
        """Ask the processor once, outside any transaction, and record every answer it gives."""
        pace = Pace(self.retry_seconds, self.refund_retry_seconds)
        for answer in self.processor.ask(request) or (Unanswered(),):
            with self.begin() as work:
                work.trace = request.trace
                recorded = PaymentRepository(work.session).record(request, answer, pace=pace, at=work.now)
                work.publish(*recorded.events)
                if recorded.is_open:
                    work.after_commit(self.attempts.wake)
                if recorded.is_first_refusal:
                    work.after_commit(partial(report_refusal, request))

    @timer(setting="PRUNE_SECONDS")
    def prune(self) -> None:
        """Drop the evidence of orders long over."""
        while self._prune_some():
            pass

    @rpc(expected_exceptions=ServiceError)
    def get_journey(self, order_id: str) -> dict[str, Any]:
        """What happened to the order here; nothing for anyone but its customer and staff."""
        wanted = read_order_id(order_id)
        with self.begin() as work:
            payments = PaymentRepository(work.session)
            payment = payments.find_by_order(wanted)
            if payment is None or not self.caller.may_see(payment.user_id):
                return {"steps": []}
            steps = [*list_steps(work.session, self.name, wanted), *show_attempts(payments.list_attempts(payment.id))]
        return {"steps": sorted(steps, key=lambda step: str(step["at"]))}

    def _prune_some(self) -> bool:
        with self.begin() as work:
            return PaymentRepository(work.session).prune()


def report_refusal(request: Request) -> None:
    """The one alarm about a refund that the processor refuses: it goes on being asked, and a person should look."""
    REFUNDS_REFUSED.inc()
    log.error("refund_refused", order_id=str(request.order_id), payment_id=str(request.payment_id))
