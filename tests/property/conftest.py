"""How long the stateful test runs, and from which seed."""

from collections.abc import Callable, Iterator

import pytest

from tests.property.house import SERVICES, House


def pytest_addoption(parser: pytest.Parser) -> None:
    """``./oms test tests/property --steps 10000 --seed 7``."""
    parser.addoption("--steps", type=int, default=None, help="how many steps the stateful test of the saga takes")
    parser.addoption("--seed", type=int, default=None, help="the seed it begins with, as an earlier run printed it")


@pytest.fixture
def house(postgres_url: str, fresh_database: Callable[[str], str]) -> Iterator[House]:
    """The services of the saga over databases of this test's own."""
    house = House(postgres_url, {name: fresh_database(name) for name in SERVICES})
    yield house
    house.close()
