"""Each service's migrations make exactly what its models and the chassis expect, and may be run again."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from cli.databases import DATABASES
from services.chassis.database import MESSAGES
from services.chassis.migrations import upgrade
from services.chassis.work import UnitOfWork


def work_of(service: str) -> UnitOfWork:
    """The unit of work on that service's class."""
    module = import_module(f"services.{service}.service")
    classes = [
        each for each in vars(module).values() if isinstance(each, type) and getattr(each, "name", "") == service
    ]
    begin: UnitOfWork = vars(classes[0])["begin"]
    return begin


@pytest.mark.parametrize("service", DATABASES)
class TestMigrations:
    """One database per service."""

    def test_make_what_the_models_say(self, service: str, fresh_database: Callable[[str], str]) -> None:
        """No difference in tables, columns, types, defaults, indexes or constraints that Alembic can see."""
        work = work_of(service)
        metadata: Any = [work.declarative_base.metadata, *([MESSAGES] if work.publishes else [])]
        engine = create_engine(fresh_database(service))

        with engine.connect() as connection:
            options = {"compare_type": True, "include_schemas": False}
            differences = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

        engine.dispose()
        assert differences == []

    def test_change_nothing_when_run_again(self, service: str, fresh_database: Callable[[str], str]) -> None:
        """Two at once would wait for each other."""
        url = fresh_database(service)
        engine = create_engine(url)
        before = inspect(engine).get_table_names()

        upgrade(service, url)

        assert inspect(engine).get_table_names() == before
        assert "alembic_version" in before
        engine.dispose()
