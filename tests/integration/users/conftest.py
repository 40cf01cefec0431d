"""The users service on servers of the test's own."""

from collections.abc import Callable, Iterator

import pytest
from redis import Redis
from sqlalchemy import Engine, create_engine

from services.users.seed import seed
from tests.integration.users.bench import ADMIN_PASSWORD, CHEAP_HASHES, Bench


@pytest.fixture
def database_url(fresh_database: Callable[[str], str]) -> str:
    """An empty userservice_db."""
    return fresh_database("users")


@pytest.fixture
def users(database_url: str, redis_url: str) -> Iterator[Bench]:
    """One process of the users service."""
    bench = Bench(database_url, redis_url)
    yield bench
    bench.stop()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A look at the database from outside."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A look at Redis from outside."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def admin_token(users: Bench, database_url: str) -> str:
    """The first administrator's access token."""
    seed(database_url, "admin@example.com", ADMIN_PASSWORD, CHEAP_HASHES)
    token: str = users.login("admin@example.com", ADMIN_PASSWORD)["token"]
    return token
