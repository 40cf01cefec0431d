"""Products, reservations, and a ledger that nobody can change."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from services.chassis.migrations import create_inbox, create_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUSES = "'reserved', 'shipped', 'released', 'rejected', 'tombstone'"
KINDS = "'received', 'reserved', 'released', 'shipped', 'adjusted'"


def upgrade() -> None:
    create_outbox()
    create_inbox()
    create_products()
    create_reservations()
    create_ledger()


def create_products() -> None:
    op.create_table(
        "products",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("unit_price_cents", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("on_hand", sa.BigInteger, nullable=False),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        sa.Column("product_version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("reserved >= 0 AND reserved <= on_hand", name="products_stock"),
        sa.CheckConstraint("unit_price_cents >= 0", name="products_price"),
        sa.CheckConstraint("product_version >= 1", name="products_version"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="products_currency"),
    )
    op.create_index("products_name", "products", ["name", "id"])
    op.execute("ALTER TABLE products SET (fillfactor = 70)")  # stock changes in place: no index holds it


def create_reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("order_id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("shortages", JSONB),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"status IN ({STATUSES})", name="reservations_status"),
        sa.CheckConstraint("(status = 'rejected') = (shortages IS NOT NULL)", name="reservations_shortages"),
    )
    op.create_table(
        "reservation_items",
        sa.Column("order_id", sa.Uuid, sa.ForeignKey("reservations.order_id"), primary_key=True),
        sa.Column("product_id", sa.Uuid, sa.ForeignKey("products.id"), primary_key=True),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.CheckConstraint("quantity > 0", name="reservation_items_quantity"),
    )


def create_ledger() -> None:
    op.create_table(
        "ledger",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("id", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("product_id", sa.Uuid, sa.ForeignKey("products.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("delta", sa.BigInteger, nullable=False),
        sa.Column("on_hand_after", sa.BigInteger, nullable=False),
        sa.Column("reserved_after", sa.BigInteger, nullable=False),
        sa.Column("order_id", sa.Uuid),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("event_id", sa.Uuid),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"kind IN ({KINDS})", name="ledger_kind"),
        sa.CheckConstraint("delta <> 0", name="ledger_delta"),
        sa.CheckConstraint(
            "CASE WHEN kind IN ('received', 'reserved') THEN delta > 0 "
            "WHEN kind IN ('released', 'shipped') THEN delta < 0 ELSE true END",
            name="ledger_sign",
        ),
        sa.CheckConstraint("reserved_after >= 0 AND reserved_after <= on_hand_after", name="ledger_levels"),
        sa.CheckConstraint(
            "(order_id IS NOT NULL) = (kind IN ('reserved', 'released', 'shipped'))", name="ledger_order_known"
        ),
    )
    op.create_index("ledger_product", "ledger", ["product_id", "number"])
    op.create_index("ledger_order", "ledger", ["order_id"])
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'the % is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    for table in ("ledger", "reservation_items", "reservations", "products", "inbox", "outbox"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
