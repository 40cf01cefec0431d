"""Orders with their lines, a history nobody can rewrite, the catalogue copy and idempotency keys."""

import sqlalchemy as sa
from alembic import op

from services.chassis.migrations import create_inbox, create_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUSES = "'Pending', 'Confirmed', 'Shipped', 'Delivered', 'Cancelled'"
PAYMENT_STATUSES = "'Pending', 'Completed', 'Failed', 'Voided', 'Refunded'"
REASONS = "'out_of_stock', 'payment_failed', 'customer', 'staff', 'expired'"
MOST_CENTS = 10**15
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_orders()
    create_order_items()
    create_order_history()
    create_catalogue()
    create_idempotency_keys()
    create_outbox()
    create_inbox()


def create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("status_reason", sa.Text()),
        sa.Column("cancelled_from", sa.Text()),
        sa.Column("cancel_note", sa.Text(), nullable=False, server_default=""),
        sa.Column("payment_status", sa.Text(), nullable=False),
        sa.Column("total_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("payment_method", sa.Text(), nullable=False),
        sa.Column("shipping_address", sa.Text()),
        sa.Column("tracking", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.Column("deadline_at", INSTANT, nullable=False),
        sa.Column("cancelled_at", INSTANT),
        sa.Column("stock_settled_at", INSTANT),
        sa.Column("payment_settled_at", INSTANT),
        sa.Column("settlement_attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_settlement_at", INSTANT),
        sa.Column("pruned_at", INSTANT),
        sa.CheckConstraint(f"status IN ({STATUSES})", "orders_status"),
        sa.CheckConstraint(f"payment_status IN ({PAYMENT_STATUSES})", "orders_payment_status"),
        sa.CheckConstraint(f"status_reason IN ({REASONS})", "orders_status_reason"),
        sa.CheckConstraint(f"total_cents BETWEEN 0 AND {MOST_CENTS}", "orders_total"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", "orders_currency"),
        sa.CheckConstraint("length(cancel_note) <= 500", "orders_cancel_note"),
        sa.CheckConstraint("status IN ('Pending', 'Cancelled') OR payment_status = 'Completed'", "orders_live_is_paid"),
        sa.CheckConstraint(
            "num_nonnulls(status_reason, cancelled_from, cancelled_at)"
            " = CASE status WHEN 'Cancelled' THEN 3 ELSE 0 END",
            "orders_cancelled_says_why",
        ),
        sa.CheckConstraint(
            "status = 'Cancelled' OR num_nonnulls(stock_settled_at, payment_settled_at) = 0",
            "orders_only_cancelled_settles",
        ),
    )
    newest = [sa.desc("created_at"), sa.desc("id")]
    op.create_index("orders_newest", "orders", newest)
    op.create_index("orders_newest_of_user", "orders", ["user_id", *newest])
    create_partial_index("orders_pending", "deadline_at", "status = 'Pending'")
    create_partial_index("orders_over", "updated_at", "status IN ('Delivered', 'Cancelled') AND pruned_at IS NULL")
    create_partial_index(
        "orders_unsettled",
        "cancelled_at",
        "status = 'Cancelled' AND (stock_settled_at IS NULL OR payment_settled_at IS NULL)",
    )


def create_partial_index(name: str, column: str, condition: str) -> None:
    op.create_index(name, "orders", [column], postgresql_where=sa.text(condition))


def create_order_items() -> None:
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.Uuid(), sa.ForeignKey("orders.id"), primary_key=True),
        sa.Column("product_id", sa.Uuid(), primary_key=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("product_name", sa.Text(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("unit_price_cents", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("order_id", "position", name="order_items_position_key"),
        sa.CheckConstraint("quantity BETWEEN 1 AND 10000", "order_items_quantity"),
        sa.CheckConstraint(f"unit_price_cents BETWEEN 0 AND {MOST_CENTS}", "order_items_unit_price"),
    )


def create_order_history() -> None:
    op.create_table(
        "order_history",
        sa.Column("order_id", sa.Uuid(), sa.ForeignKey("orders.id"), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Uuid()),
        sa.Column("from_status", sa.Text()),
        sa.Column("to_status", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Uuid()),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sa.CheckConstraint("number >= 1", "order_history_number"),
    )
    op.execute("""
        CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'order_history is append-only';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER order_history_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON order_history
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_rewrite_history()
    """)


def create_catalogue() -> None:
    op.create_table(
        "catalogue",
        sa.Column("product_id", sa.Uuid(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("unit_price_cents", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("product_version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(f"unit_price_cents BETWEEN 0 AND {MOST_CENTS}", "catalogue_unit_price"),
    )


def create_idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.Uuid(), primary_key=True),
        sa.Column("method", sa.Text(), primary_key=True),
        sa.Column("path", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False, server_default=sa.func.now()),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 255", "idempotency_keys_key"),
    )
    op.create_index("idempotency_keys_oldest", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    for table in ("idempotency_keys", "catalogue", "order_history", "order_items", "orders", "outbox", "inbox"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_to_rewrite_history()")
