"""Alembic's entry into this database."""

from services.chassis.migrations import run
from services.payments.models import Base

run(Base.metadata)
