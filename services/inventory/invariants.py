"""What must hold over inventoryservice_db: queries for the rows that break it, and what others are held against.

They only read; ``./oms doctor`` and the tests run them.
"""

from typing import Final

from services.chassis.invariants import KEPT_DAYS, Invariant, lacks, one_id_per_outcome, outbox_is_empty, told

INVARIANTS: Final = (
    Invariant(
        "inventory.stock_within_bounds",
        "Reserved is never below zero and never more than there is on hand.",
        """
        SELECT id AS product_id, name, on_hand, reserved FROM products
        WHERE NOT (0 <= reserved AND reserved <= on_hand)""",
        "product {product_id} ({name}) has {reserved} reserved of {on_hand} on hand.",
    ),
    Invariant(
        "inventory.reserved_is_the_sum_of_reservations",
        "What a product has reserved is what the reserved orders hold of it.",
        """
        SELECT id AS product_id, name, reserved, coalesce(held, 0) AS held FROM products LEFT JOIN (
            SELECT product_id, sum(quantity) AS held FROM reservation_items JOIN reservations USING (order_id)
            WHERE status = 'reserved' GROUP BY product_id
        ) AS items ON items.product_id = products.id
        WHERE reserved <> coalesce(held, 0)""",
        "product {product_id} ({name}) says {reserved} are reserved, but its reserved orders hold {held}.",
    ),
    Invariant(
        "inventory.on_hand_is_the_sum_of_the_ledger",
        "What is on hand is what was received and adjusted, less what was shipped.",
        """
        SELECT id AS product_id, name, on_hand, coalesce(moved, 0) AS moved FROM products LEFT JOIN (
            SELECT product_id, sum(delta) AS moved FROM ledger
            WHERE kind IN ('received', 'adjusted', 'shipped') GROUP BY product_id
        ) AS movements ON movements.product_id = products.id
        WHERE on_hand <> coalesce(moved, 0)""",
        "product {product_id} ({name}) has {on_hand} on hand, but its ledger comes to {moved}.",
    ),
    Invariant(
        "inventory.reserved_is_the_sum_of_the_ledger",
        "What is reserved is what was set aside, less what was released and shipped.",
        """
        SELECT id AS product_id, name, reserved, coalesce(moved, 0) AS moved FROM products LEFT JOIN (
            SELECT product_id, sum(delta) AS moved FROM ledger
            WHERE kind IN ('reserved', 'released', 'shipped') GROUP BY product_id
        ) AS movements ON movements.product_id = products.id
        WHERE reserved <> coalesce(moved, 0)""",
        "product {product_id} ({name}) has {reserved} reserved, but its ledger comes to {moved}.",
    ),
    Invariant(
        "inventory.units_are_conserved",
        "Each unit of an order was set aside once, and then is held, or was released or shipped once.",
        """
        WITH moved AS (
            SELECT order_id, product_id,
                coalesce(sum(delta) FILTER (WHERE kind = 'reserved'), 0) AS set_aside,
                coalesce(-sum(delta) FILTER (WHERE kind = 'released'), 0) AS released,
                coalesce(-sum(delta) FILTER (WHERE kind = 'shipped'), 0) AS shipped
            FROM ledger WHERE order_id IS NOT NULL GROUP BY order_id, product_id
        ), wanted AS (
            SELECT order_id, product_id, status, quantity,
                CASE WHEN status = 'released' THEN quantity ELSE 0 END AS back,
                CASE WHEN status = 'shipped' THEN quantity ELSE 0 END AS gone
            FROM reservation_items JOIN reservations USING (order_id)
        )
        SELECT order_id, product_id, coalesce(status, 'unknown') AS status, coalesce(quantity, 0) AS quantity,
            coalesce(set_aside, 0) AS set_aside, coalesce(released, 0) AS released, coalesce(shipped, 0) AS shipped
        FROM moved FULL JOIN wanted USING (order_id, product_id)
        WHERE (quantity, back, gone) IS DISTINCT FROM (set_aside, released, shipped)
            OR status NOT IN ('reserved', 'released', 'shipped')""",
        "order {order_id} is {status} with {quantity} of product {product_id}, but the ledger says"
        " {set_aside} set aside, {released} released, {shipped} shipped.",
    ),
    told(
        "inventory",
        "reservation_was_told",
        f"""
        SELECT order_id, status, missing FROM (
            SELECT order_id, status, CASE
                WHEN status IN ('reserved', 'released', 'shipped') AND {lacks("r.order_id", "InventoryReservedEvent")}
                    THEN 'InventoryReservedEvent'
                WHEN status = 'rejected' AND {lacks("r.order_id", "InventoryReservationFailedEvent")}
                    THEN 'InventoryReservationFailedEvent'
                WHEN status IN ('released', 'tombstone') AND {lacks("r.order_id", "InventoryReleasedEvent")}
                    THEN 'InventoryReleasedEvent'
                END AS missing
            FROM reservations AS r WHERE created_at > now() - interval '{KEPT_DAYS} days'
        ) AS judged WHERE missing IS NOT NULL""",  # noqa: S608 - nothing in it comes from outside
    ),
    one_id_per_outcome(
        "inventory", ("InventoryReservedEvent", "InventoryReservationFailedEvent", "InventoryReleasedEvent")
    ),
    outbox_is_empty("inventory"),
)

RESERVATIONS: Final = """
    SELECT order_id, user_id, status, extract(epoch FROM now() - updated_at)::float8 AS age,
        (SELECT json_object_agg(product_id, quantity) FROM reservation_items AS item
            WHERE item.order_id = reservations.order_id) AS lines
    FROM reservations ORDER BY order_id"""
"""What is set aside for each order, in the order of their ids."""

PRODUCTS: Final = """
    SELECT id AS product_id, name, product_version, extract(epoch FROM now() - updated_at)::float8 AS age
    FROM products ORDER BY id"""
"""The version of each product, likewise."""
