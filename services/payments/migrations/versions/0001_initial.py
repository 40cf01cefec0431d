"""Payments and their attempts, and the simulated card processor's own book."""

import sqlalchemy as sa
from alembic import op

from services.chassis.migrations import create_inbox, create_outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATUSES = "'processing', 'captured', 'failed', 'voided', 'refunding', 'refunded'"
OUTCOMES = "'charged', 'declined', 'abandoned', 'refunded', 'refused', 'unanswered'"
CHARGED = "status IN ('captured', 'refunding', 'refunded')"


def upgrade() -> None:
    create_outbox()
    create_inbox()
    create_payments()
    create_attempts()
    create_processor()


def create_payments() -> None:
    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("order_id", sa.Uuid, nullable=False, unique=True),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("amount_cents", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("payment_method", sa.Text),
        sa.Column("transaction_id", sa.Text, unique=True),
        sa.Column("refund_id", sa.Text, unique=True),
        sa.Column("reason", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("traceparent", sa.Text),
        sa.Column("causation_id", sa.Uuid, nullable=False),
        sa.Column("charge_attempts", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("abandon_attempts", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("refund_attempts", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("refund_refused_at", sa.DateTime(timezone=True)),
        sa.Column("lease_until", sa.DateTime(timezone=True)),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(f"status IN ({STATUSES})", name="payments_status"),
        sa.CheckConstraint("amount_cents >= 0", name="payments_amount"),
        sa.CheckConstraint(
            "(status = 'voided') = (amount_cents IS NULL) AND (status = 'voided') = (currency IS NULL) "
            "AND (status = 'voided') = (payment_method IS NULL)",
            name="payments_asked",
        ),
        sa.CheckConstraint(f"({CHARGED}) = (transaction_id IS NOT NULL)", name="payments_charged"),
        sa.CheckConstraint("(status = 'refunded') = (refund_id IS NOT NULL)", name="payments_refunded"),
        sa.CheckConstraint("(status = 'failed') = (reason IS NOT NULL)", name="payments_failed"),
        sa.CheckConstraint(
            "status NOT IN ('refunding', 'refunded', 'voided') OR cancel_requested", name="payments_given_back"
        ),
    )
    op.create_index(
        "payments_open",
        "payments",
        ["next_attempt_at"],
        postgresql_where=sa.text("status IN ('processing', 'refunding')"),
    )


def create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("payment_id", sa.Uuid, sa.ForeignKey("payments.id"), nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True)),
        sa.Column("outcome", sa.Text),
        sa.CheckConstraint("kind IN ('charge', 'abandon', 'refund')", name="attempts_kind"),
        sa.CheckConstraint(f"outcome IN ({OUTCOMES})", name="attempts_outcome"),
        sa.CheckConstraint(
            "(answered_at IS NOT NULL) = coalesce(outcome <> 'unanswered', false)", name="attempts_answered"
        ),
        sa.UniqueConstraint("payment_id", "kind", "number", name="attempts_number"),
    )
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION 'the % are append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation'; END $$"
    )
    op.execute(
        "CREATE TRIGGER attempts_kept BEFORE DELETE OR TRUNCATE ON attempts "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER attempts_answered_once BEFORE UPDATE ON attempts FOR EACH ROW "
        "WHEN (OLD.outcome IS NOT NULL OR (OLD.id, OLD.payment_id, OLD.kind, OLD.number, OLD.started_at) "
        "IS DISTINCT FROM (NEW.id, NEW.payment_id, NEW.kind, NEW.number, NEW.started_at)) "
        "EXECUTE FUNCTION refuse_change()"
    )


def create_processor() -> None:
    """The simulated processor lives outside: nothing of ours refers to its book, and it refers to nothing of ours."""
    op.execute("CREATE SCHEMA processor")
    op.create_table(
        "charges",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("transaction_id", sa.Text, unique=True),
        sa.Column("reason", sa.Text),
        sa.Column("amount_cents", sa.BigInteger),
        sa.Column("currency", sa.Text),
        sa.Column("payment_method", sa.Text),
        sa.Column("booked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        sa.CheckConstraint("outcome IN ('charged', 'declined', 'abandoned')", name="charges_outcome"),
        sa.CheckConstraint("(outcome = 'charged') = (transaction_id IS NOT NULL)", name="charges_charged"),
        schema="processor",
    )
    op.create_table(
        "refunds",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column(
            "transaction_id", sa.Text, sa.ForeignKey("processor.charges.transaction_id"), nullable=False, unique=True
        ),
        sa.Column("refund_id", sa.Text, nullable=False, unique=True),
        sa.Column("amount_cents", sa.BigInteger, nullable=False),
        sa.Column("booked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.clock_timestamp()),
        schema="processor",
    )
    op.create_table("tries", sa.Column("key", sa.Text, primary_key=True), schema="processor")
    op.create_table(
        "faults",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("target", sa.Text, nullable=False, comment="a key or a payment method"),
        sa.Column("call", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("times", sa.Integer, nullable=False, server_default="1"),
        sa.CheckConstraint("call IN ('charge', 'abandon', 'refund')", name="faults_call"),
        sa.CheckConstraint("kind IN ('fail', 'stall', 'lose', 'twice', 'refuse')", name="faults_kind"),
        sa.CheckConstraint("times >= 0", name="faults_times"),
        schema="processor",
    )


def downgrade() -> None:
    op.execute("DROP SCHEMA processor CASCADE")
    for table in ("attempts", "payments", "inbox", "outbox"):
        op.drop_table(table)
    op.execute("DROP FUNCTION refuse_change()")
