"""Alembic's entry into this database."""

from services.chassis.migrations import run
from services.users.models import Base

run(Base.metadata)
