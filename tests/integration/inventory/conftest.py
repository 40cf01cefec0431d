"""Inventory on PostgreSQL, with the first catalogue."""

from collections.abc import Callable, Iterator

import pytest

from services.inventory.seed import seed
from tests.integration.inventory.bench import InventoryBench


@pytest.fixture
def database_url(fresh_database: Callable[[str], str]) -> str:
    """An inventoryservice_db with the first catalogue."""
    url = fresh_database("inventory")
    seed(url)
    return url


@pytest.fixture
def inventory(database_url: str) -> Iterator[InventoryBench]:
    """The service on that database."""
    bench = InventoryBench(database_url)
    yield bench
    bench.engine.dispose()
