"""Payments on PostgreSQL."""

from collections.abc import Callable, Iterator

import pytest

from tests.integration.payments.bench import PaymentsBench


@pytest.fixture
def payments(fresh_database: Callable[[str], str]) -> Iterator[PaymentsBench]:
    """The service on an empty database."""
    bench = PaymentsBench(fresh_database("payments"))
    yield bench
    bench.close()
