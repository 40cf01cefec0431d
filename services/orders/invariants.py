"""What must hold over orderservice_db: queries for the rows that break it, and what other databases are held against.

They only read; ``./oms doctor`` and the tests run them.
"""

from typing import Final

from services.chassis.invariants import Invariant, outbox_is_empty, told

_EVENTS_OF: Final = """
    (VALUES ('OrderCreatedEvent', NULL), ('OrderConfirmedEvent', 'Confirmed'), ('OrderShippedEvent', 'Shipped'),
        ('OrderDeliveredEvent', 'Delivered'), ('OrderCancelledEvent', 'Cancelled')) AS event (missing, entered)"""

INVARIANTS: Final = (
    Invariant(
        "orders.total_is_the_sum_of_its_lines",
        "An order's total is the sum of quantity times price of its lines.",
        """
        SELECT id AS order_id, total_cents, currency, coalesce(lines_cents, 0)::bigint AS lines_cents
        FROM orders LEFT JOIN (
            SELECT order_id, sum(quantity * unit_price_cents) AS lines_cents FROM order_items GROUP BY order_id
        ) AS items ON items.order_id = orders.id
        WHERE total_cents IS DISTINCT FROM lines_cents""",
        "order {order_id} has a total of {total_cents} {currency}, but its lines come to {lines_cents}.",
    ),
    Invariant(
        "orders.history_ends_in_its_status",
        "The last entry of an order's history is its status, and none is missing.",
        """
        SELECT id AS order_id, status, version, last_status, coalesce(entries, 0) AS entries FROM orders LEFT JOIN (
            SELECT order_id, count(*) AS entries, (array_agg(to_status ORDER BY number DESC))[1] AS last_status
            FROM order_history GROUP BY order_id
        ) AS history ON history.order_id = orders.id
        WHERE status IS DISTINCT FROM last_status OR version <> coalesce(entries, 0)""",
        "order {order_id} is {status} after {version} changes, but its history has {entries} entries and ends in"
        " {last_status}.",
    ),
    Invariant(
        "orders.nothing_leaves_a_terminal_state",
        "A cancelled order stays cancelled, a delivered one delivered.",
        """
        SELECT order_id, number, from_status, to_status, event FROM order_history
        WHERE from_status IN ('Cancelled', 'Delivered') AND to_status <> from_status""",
        "order {order_id} went from {from_status} to {to_status} by {event} (entry {number} of its history).",
    ),
    told(
        "orders",
        "status_was_told",
        f"""
        SELECT id AS order_id, status, missing FROM orders CROSS JOIN {_EVENTS_OF}
        WHERE pruned_at IS NULL
            AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.order_id = orders.id AND event_type = missing)
            AND (entered IS NULL OR EXISTS (
                SELECT 1 FROM order_history WHERE order_id = orders.id AND to_status = entered))""",  # noqa: S608 - nothing in it comes from outside
    ),
    Invariant(
        "orders.no_pending_order_past_its_deadline",
        "An order that is not paid by its deadline is cancelled.",
        """
        SELECT id AS order_id, total_cents, currency, deadline_at FROM orders
        WHERE status = 'Pending' AND deadline_at < now() - make_interval(secs => :quiet_seconds)
            AND updated_at < now() - make_interval(secs => :quiet_seconds)""",
        "order {order_id} over {total_cents} {currency} is Pending although its deadline was {deadline_at}:"
        " does the orders service run?",
        when_quiet=True,
    ),
    Invariant(
        "orders.cancelled_is_settled",
        "A cancelled order has got back its stock and its money.",
        """
        SELECT id AS order_id, total_cents, currency, cancelled_at, status_reason, settlement_attempts,
            concat_ws(' and ', CASE WHEN stock_settled_at IS NULL THEN 'its stock' END,
                CASE WHEN payment_settled_at IS NULL THEN 'its money' END) AS owed
        FROM orders WHERE status = 'Cancelled' AND (stock_settled_at IS NULL OR payment_settled_at IS NULL)
            AND updated_at < now() - make_interval(secs => :quiet_seconds)""",
        "order {order_id} over {total_cents} {currency} was cancelled ({status_reason}) at {cancelled_at}, and nobody"
        " has said that {owed} went back ({settlement_attempts} reminders).",
        when_quiet=True,
    ),
    outbox_is_empty("orders"),
)

ORDERS: Final = """
    SELECT id AS order_id, user_id, status, total_cents, currency, pruned_at IS NOT NULL AS pruned,
        extract(epoch FROM now() - updated_at)::float8 AS age,
        (SELECT json_object_agg(product_id, quantity) FROM order_items WHERE order_id = orders.id) AS lines
    FROM orders ORDER BY id"""
"""Every order in the order of their ids."""

CATALOGUE: Final = "SELECT product_id, product_version FROM catalogue ORDER BY product_id"
"""The version of each product that the copy of the catalogue holds, likewise."""

KNOWN_ORDERS: Final = "SELECT id AS order_id FROM orders WHERE id = ANY(CAST(:order_ids AS uuid[]))"
"""Those of these orders that exist."""
