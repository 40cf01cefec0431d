"""The real service on a real database; what is outside of it - broker, Redis, inventory, the token - is a fake."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session, sessionmaker

from services.chassis.auth import Principal
from services.chassis.database import engine_options
from tests.integration.orders.stage import Stage
from tests.support.fakes import a_caller


@pytest.fixture
def engine(fresh_database: Callable[[str], str]) -> Iterator[Engine]:
    """An empty database of orders, reached as the service reaches it."""
    engine = create_engine(fresh_database("orders"), **engine_options(10))
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session that is rolled back after the test, unless the test commits."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture
def stage(engine: Engine) -> Stage:
    """The service and its surroundings."""
    return Stage(sessionmaker(engine, expire_on_commit=False))


@pytest.fixture
def customer() -> Principal:
    """Somebody who orders."""
    return a_caller()
