"""What must hold over paymentservice_db and the processor's book in it: queries for the rows that break it.

They only read; ``./oms doctor`` and the tests run them.
"""

from typing import Final

from services.chassis.invariants import KEPT_DAYS, Invariant, lacks, one_id_per_outcome, outbox_is_empty, told

INVARIANTS: Final = (
    Invariant(
        "payments.at_most_one_charge",
        "An order is charged once.",
        """
        SELECT split_part(key, ':', 1) AS order_id, count(*) AS charges, sum(amount_cents)::bigint AS charged_cents,
            string_agg(transaction_id, ', ') AS transactions
        FROM processor.charges WHERE outcome = 'charged' GROUP BY 1 HAVING count(*) > 1""",
        "order {order_id} was charged {charges} times, {charged_cents} in all: {transactions}.",
    ),
    Invariant(
        "payments.at_most_one_refund",
        "An order's money goes back once.",
        """
        SELECT split_part(key, ':', 1) AS order_id, count(*) AS refunds, sum(amount_cents)::bigint AS refunded_cents,
            string_agg(refund_id, ', ') AS refund_ids
        FROM processor.refunds GROUP BY 1 HAVING count(*) > 1""",
        "order {order_id} was refunded {refunds} times, {refunded_cents} in all: {refund_ids}.",
    ),
    Invariant(
        "payments.refund_within_its_charge",
        "No refund is more than its charge.",
        """
        SELECT split_part(refunds.key, ':', 1) AS order_id, refund_id, refunds.amount_cents AS refunded_cents,
            charges.amount_cents AS charged_cents
        FROM processor.refunds LEFT JOIN processor.charges USING (transaction_id)
        WHERE refunds.amount_cents > coalesce(charges.amount_cents, 0)""",
        "order {order_id} got back {refunded_cents} with {refund_id}, but was charged {charged_cents}.",
    ),
    Invariant(
        "payments.agree_with_the_processor",
        "What payments has recorded is what the processor's book says.",
        """
        SELECT coalesce(payment.order_id::text, charge.key) AS order_id, payment.status, payment.amount_cents,
            charge.outcome, charge.amount_cents AS charged_cents, refund.amount_cents AS refunded_cents
        FROM payments AS payment FULL JOIN processor.charges AS charge ON charge.key = payment.order_id::text
        LEFT JOIN processor.refunds AS refund ON refund.transaction_id = charge.transaction_id
        WHERE CASE
            WHEN payment.status IS NULL THEN charge.outcome = 'charged'
            WHEN payment.status IN ('failed', 'voided') THEN charge.outcome IS NOT DISTINCT FROM 'charged'
            WHEN payment.status = 'processing' THEN refund.refund_id IS NOT NULL
            ELSE (payment.transaction_id, payment.amount_cents, payment.currency)
                    IS DISTINCT FROM (charge.transaction_id, charge.amount_cents, charge.currency)
                OR (payment.status = 'captured' AND refund.refund_id IS NOT NULL)
                OR (payment.status = 'refunded' AND (payment.refund_id, payment.amount_cents)
                    IS DISTINCT FROM (refund.refund_id, refund.amount_cents))
            END""",
        "order {order_id}: payments has {status} over {amount_cents}, the processor {outcome}, charged {charged_cents},"
        " refunded {refunded_cents}.",
    ),
    told(
        "payments",
        "payment_was_told",
        f"""
        SELECT order_id, status, missing FROM (
            SELECT order_id, status, CASE
                WHEN status = 'captured' AND {lacks("p.order_id", "PaymentProcessedEvent")}
                    THEN 'PaymentProcessedEvent'
                WHEN status = 'failed' AND {lacks("p.order_id", "PaymentFailedEvent")}
                    THEN 'PaymentFailedEvent'
                WHEN (status = 'voided' OR status = 'failed' AND cancel_requested)
                    AND {lacks("p.order_id", "PaymentVoidedEvent")}
                    THEN 'PaymentVoidedEvent'
                WHEN status = 'refunded' AND {lacks("p.order_id", "PaymentRefundedEvent")}
                    THEN 'PaymentRefundedEvent'
                END AS missing
            FROM payments AS p WHERE created_at > now() - interval '{KEPT_DAYS} days'
        ) AS judged WHERE missing IS NOT NULL""",  # noqa: S608 - nothing in it comes from outside
    ),
    Invariant(
        "payments.none_is_forgotten",
        "The processor is asked for every payment that waits for it.",
        """
        SELECT order_id, status, amount_cents, currency, next_attempt_at FROM payments
        WHERE status IN ('processing', 'refunding') AND updated_at < now() - make_interval(secs => :quiet_seconds)
            AND next_attempt_at < now() - make_interval(secs => :quiet_seconds)
            AND coalesce(lease_until, next_attempt_at) < now() - make_interval(secs => :quiet_seconds)""",
        "order {order_id} is {status} over {amount_cents} {currency}, and the processor should have been asked at"
        " {next_attempt_at}: does the payments service run?",
        when_quiet=True,
    ),
    one_id_per_outcome(
        "payments", ("PaymentProcessedEvent", "PaymentFailedEvent", "PaymentVoidedEvent", "PaymentRefundedEvent")
    ),
    outbox_is_empty("payments"),
)

PAYMENTS: Final = """
    SELECT order_id, user_id, status, amount_cents, currency, refund_refused_at,
        extract(epoch FROM now() - updated_at)::float8 AS age
    FROM payments ORDER BY order_id"""
"""The money of each order as payments knows it, in the order of their ids."""

BOOK: Final = """
    SELECT order_id, sum(charged)::bigint AS charged_cents, sum(refunded)::bigint AS refunded_cents,
        extract(epoch FROM now() - max(booked_at))::float8 AS age
    FROM (
        SELECT split_part(key, ':', 1) AS order_id, amount_cents AS charged, 0 AS refunded, booked_at
        FROM processor.charges WHERE outcome = 'charged'
        UNION ALL
        SELECT split_part(key, ':', 1), 0, amount_cents, booked_at FROM processor.refunds
    ) AS entries GROUP BY order_id ORDER BY order_id COLLATE "C" """
"""What the processor took and gave back for each order, likewise."""
