"""The notifications service on a Redis of the test run and a mailbox of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.integration.notifications.bench import Bench, Order


@pytest.fixture
def bench(redis_url: str, tmp_path: Path) -> Iterator[Bench]:
    """One process of the service."""
    bench = Bench(redis_url, tmp_path / "mailbox")
    yield bench
    bench.stop()


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A look at Redis from outside."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def order() -> Order:
    """An order."""
    return Order()
