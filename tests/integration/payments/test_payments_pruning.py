"""What payments forgets of its messages, and what it never does."""

from sqlalchemy import text

from services.chassis.evidence import KEPT
from tests.integration.payments.bench import PaymentsBench, a_reserved


def age_everything(payments: PaymentsBench) -> None:
    """Let everything have happened too long ago to be kept."""
    long_ago = {"kept": KEPT}
    with payments.engine.begin() as connection:
        connection.execute(text("UPDATE inbox SET handled_at = now() - :kept - interval '1 day'"), long_ago)
        connection.execute(text("UPDATE outbox SET published_at = now() - :kept - interval '1 day'"), long_ago)


class TestPruning:
    """The timer that drops old evidence."""

    def test_drops_what_is_over_and_keeps_what_is_not(self, payments: PaymentsBench) -> None:
        """A payment that the processor still has to answer keeps all of it."""
        charged, waiting = a_reserved(), a_reserved()
        payments.deliver(charged)
        payments.work()
        payments.deliver(waiting)
        age_everything(payments)

        payments.service().prune()

        kept = [str(row.order_id) for row in payments.rows("SELECT order_id FROM inbox")]
        assert kept == [str(waiting.order_id)]
        assert payments.outbox(charged) == []
        assert payments.payment(charged).status == "captured"
