"""Accounts, refresh tokens and denied tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    create_users()
    create_refresh_tokens()
    create_denied_tokens()


def create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("email_key", sa.Text, sa.Computed('lower(email COLLATE "C")', persisted=True), nullable=False),
        sa.Column("first_name", sa.Text),
        sa.Column("last_name", sa.Text),
        sa.Column("phone", sa.Text),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.UniqueConstraint("email_key", name="users_email_key"),
        sa.CheckConstraint("role IN ('customer', 'staff', 'admin')", name="users_role"),
        sa.CheckConstraint("email ~ '^[!-~]+@[!-~]+$' AND length(email) <= 254", name="users_email"),
        sa.CheckConstraint("phone ~ '^[+][1-9][0-9]{6,14}$'", name="users_phone"),
    )
    op.create_index("users_admins", "users", ["id"], postgresql_where=sa.text("role = 'admin' AND active"))


def create_refresh_tokens() -> None:
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("family", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("access_jti", sa.Uuid, nullable=False),
        sa.Column("access_expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("spent_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("length(token_hash) = 32", name="refresh_tokens_hash"),
        sa.CheckConstraint("expires_at > issued_at", name="refresh_tokens_lifetime"),
    )
    op.create_index("refresh_tokens_family", "refresh_tokens", ["family"])
    op.create_index("refresh_tokens_user_id", "refresh_tokens", ["user_id"])
    op.create_index("refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])


def create_denied_tokens() -> None:
    op.create_table(
        "denied_tokens",
        sa.Column("jti", sa.Uuid, primary_key=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_index("denied_tokens_expires_at", "denied_tokens", ["expires_at"])


def downgrade() -> None:
    for table in ("denied_tokens", "refresh_tokens", "users"):
        op.drop_table(table)
