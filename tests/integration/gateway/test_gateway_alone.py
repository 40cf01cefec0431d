"""The real gateway while everything behind it is away."""

import time
from collections.abc import Iterator

import pytest
import requests

from tests.integration.gateway.door import Door, check_problem


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway whose broker and Redis are not there."""
    command = ["-m", "nameko", "run", "gateway", "--config"]
    with Door(tmp_path_factory.mktemp("gateway"), "gateway", command) as door:
        yield door


class TestGatewayAlone:
    """No broker, no Redis."""

    def test_says_503_soon_and_when_to_come_back(self, gateway: Door) -> None:
        """Within six seconds."""
        started = time.monotonic()

        answer = requests.get(f"{gateway.url}/api/inventory/products", timeout=10)

        assert time.monotonic() - started < 6
        check_problem(answer.json(), 503, answer.headers)
        assert int(answer.headers["Retry-After"]) > 0

    def test_is_alive_and_not_ready(self, gateway: Door) -> None:
        """A supervisor leaves it alone, a load balancer sends nobody."""
        readiness = requests.get(f"{gateway.url}/readyz", timeout=10)

        assert requests.get(f"{gateway.url}/healthz", timeout=5).status_code == 200
        assert readiness.status_code == 503
        assert readiness.json()["checks"]["denials"] == "Redis does not answer"

    def test_still_ends_when_it_is_told_to(self, gateway: Door) -> None:
        """SIGTERM with the broker gone."""
        gateway.terminate()

        assert gateway.process.wait(timeout=20) == 0
