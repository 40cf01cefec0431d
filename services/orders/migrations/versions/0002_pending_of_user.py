"""How many Pending orders somebody has is asked whenever they place one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

INDEX = "orders_pending_of_user"


def upgrade() -> None:
    op.create_index(INDEX, "orders", ["user_id"], postgresql_where=sa.text("status = 'Pending'"))


def downgrade() -> None:
    op.drop_index(INDEX, "orders")
