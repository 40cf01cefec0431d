"""How Alembic reaches orderservice_db."""

from services.chassis.migrations import run
from services.orders.models import Order

run(Order.metadata)
