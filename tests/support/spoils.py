"""How to break each invariant of the books: the changes to a healthy shop after which a check must be named."""

from typing import Final

SPOILT: Final[dict[str, list[tuple[str, str]]]] = {
    "inventory.stock_within_bounds": [
        ("inventory", "ALTER TABLE products DROP CONSTRAINT products_stock"),
        ("inventory", "UPDATE products SET reserved = on_hand + 1"),
    ],
    "inventory.reserved_is_the_sum_of_reservations": [("inventory", "UPDATE products SET reserved = reserved + 1")],
    "inventory.on_hand_is_the_sum_of_the_ledger": [("inventory", "UPDATE products SET on_hand = on_hand + 1")],
    "inventory.reserved_is_the_sum_of_the_ledger": [
        ("inventory", "DELETE FROM ledger WHERE order_id = {confirmed} AND kind = 'reserved'")
    ],
    "inventory.units_are_conserved": [("inventory", "DELETE FROM ledger WHERE order_id = {refunded}")],
    "inventory.reservation_was_told": [
        ("inventory", "DELETE FROM outbox WHERE order_id = {refunded} AND event_type = 'InventoryReleasedEvent'")
    ],
    "inventory.one_id_per_outcome": [
        (
            "inventory",
            (
                "INSERT INTO outbox (event_id, event_type, order_id, correlation_id, payload, created_at, published_at)"
                " SELECT gen_random_uuid(), event_type, order_id, correlation_id, payload, created_at, now()"
                " FROM outbox WHERE order_id = {short} AND event_type = 'InventoryReleasedEvent'"
            ),
        )
    ],
    "inventory.outbox_is_empty": [
        ("inventory", "UPDATE outbox SET published_at = NULL WHERE order_id = {confirmed}"),
    ],
    "orders.total_is_the_sum_of_its_lines": [
        ("orders", "UPDATE order_items SET unit_price_cents = 1 WHERE order_id = {pending}")
    ],
    "orders.history_ends_in_its_status": [
        ("orders", "DELETE FROM order_history WHERE order_id = {delivered} AND number = 4")
    ],
    "orders.nothing_leaves_a_terminal_state": [
        (
            "orders",
            (
                "INSERT INTO order_history (order_id, number, at, event, from_status, to_status, actor)"
                " VALUES ({short}, 3, now(), 'test', 'Cancelled', 'Confirmed', 'test')"
            ),
        )
    ],
    "orders.status_was_told": [
        ("orders", "DELETE FROM outbox WHERE order_id = {shipped} AND event_type = 'OrderShippedEvent'")
    ],
    "orders.no_pending_order_past_its_deadline": [
        ("orders", "UPDATE orders SET deadline_at = now() - interval '1 hour' WHERE id = {pending}")
    ],
    "orders.cancelled_is_settled": [("orders", "UPDATE orders SET payment_settled_at = NULL WHERE id = {refunded}")],
    "orders.outbox_is_empty": [("orders", "UPDATE outbox SET published_at = NULL WHERE order_id = {shipped}")],
    "payments.at_most_one_charge": [
        (
            "payments",
            (
                "INSERT INTO processor.charges SELECT key || ':again', outcome, 'ch_2', reason, amount_cents, currency,"
                " payment_method, booked_at FROM processor.charges WHERE key = {confirmed}"
            ),
        )
    ],
    "payments.at_most_one_refund": [
        (
            "payments",
            (
                "INSERT INTO processor.refunds SELECT key || ':again', 'ch_2', 're_2', amount_cents, booked_at"
                " FROM processor.refunds"
            ),
        )
    ],
    "payments.refund_within_its_charge": [("payments", "UPDATE processor.refunds SET amount_cents = 2101")],
    "payments.agree_with_the_processor": [
        ("payments", "UPDATE processor.charges SET transaction_id = 'ch_x' WHERE key = {confirmed}")
    ],
    "payments.payment_was_told": [
        ("payments", "DELETE FROM outbox WHERE order_id = {confirmed} AND event_type = 'PaymentProcessedEvent'")
    ],
    "payments.none_is_forgotten": [
        ("payments", "UPDATE payments SET next_attempt_at = created_at WHERE order_id = {pending}")
    ],
    "payments.one_id_per_outcome": [
        (
            "payments",
            (
                "INSERT INTO outbox (event_id, event_type, order_id, correlation_id, payload, created_at, published_at)"
                " SELECT gen_random_uuid(), event_type, order_id, correlation_id, payload, created_at, now()"
                " FROM outbox WHERE order_id = {refunded} AND event_type = 'PaymentRefundedEvent'"
            ),
        )
    ],
    "payments.outbox_is_empty": [
        ("payments", "UPDATE outbox SET published_at = NULL WHERE order_id = {confirmed}"),
    ],
    "orders.stock_is_as_the_order": [
        ("inventory", "UPDATE reservations SET status = 'reserved' WHERE order_id = {shipped}")
    ],
    "orders.lines_are_held": [("inventory", "UPDATE reservation_items SET quantity = 2 WHERE order_id = {confirmed}")],
    "orders.payment_is_as_the_order": [
        ("payments", "UPDATE payments SET amount_cents = 2000 WHERE order_id = {delivered}")
    ],
    "processor.charge_is_as_the_order": [("payments", "DELETE FROM processor.charges WHERE key = {delivered}")],
    "processor.charges_less_refunds_are_the_live_orders": [("payments", "DELETE FROM processor.refunds")],
    "orders.nothing_is_held_for_nobody": [
        ("orders", "DELETE FROM orders WHERE id = {confirmed}"),
        ("orders", "DELETE FROM order_items WHERE order_id = {confirmed}"),
    ],
    "orders.customer_is_known": [("users", "DELETE FROM users")],
    "events.reach_every_subscriber": [
        ("inventory", "DELETE FROM inbox WHERE order_id = {shipped} AND event_type = 'OrderShippedEvent'")
    ],
    "orders.catalogue_is_current": [("inventory", "UPDATE products SET product_version = 2")],
}
"""For each check what breaks it; everything else is as it must be."""
