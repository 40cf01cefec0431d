"""Redis over TLS, by its URL alone: the right authority works, a wrong one is named."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import requests

from cli.servers.endpoints import Endpoints
from tests.integration.gateway.door import Door
from tests.support.certificates import Papers, over_tls
from tests.support.tls_front import TlsFront
from tests.support.until import eventually

KEEPER: Final = ["-m", "nameko", "run", "tests.integration.chassis.keeper_service:KeeperService", "--config"]


@pytest.fixture(scope="module")
def front(servers: Endpoints, papers: Papers) -> Iterator[TlsFront]:
    """Redis' port, with TLS."""
    with TlsFront(urlsplit(servers.redis_url).port or 6379, papers) as front:
        yield front


class TestRedis:
    """Redis over TLS: ``rediss://`` and ``ssl_ca_certs`` in its URL."""

    @staticmethod
    def keeper(folder: Path, redis_url: str, front: TlsFront, papers: Papers, host: str = "localhost") -> Door:
        """A service that trusts that authority only."""
        url = over_tls(redis_url, "rediss", front.port, f"ssl_ca_certs={papers.authority}", host)
        return Door(folder, "keeper", KEEPER, REDIS_URL=url)

    def test_keeps_copies(self, tmp_path: Path, redis_url: str, front: TlsFront, papers: Papers) -> None:
        """Also for forty who come at once, each needing a connection."""
        with self.keeper(tmp_path, redis_url, front, papers) as keeper:
            eventually(lambda: readiness(keeper)["status"] == "ready")
            with ThreadPoolExecutor(40) as pool:
                eventually(lambda: len(set(pool.map(lambda _: kept(keeper, "a"), range(40)))) == 1)

        assert front.carried > 1

    @pytest.mark.parametrize(
        ("who", "host", "reason"),
        [
            ("strangers", "localhost", "its certificate is not trusted: unable to get local issuer certificate"),
            ("papers", "127.0.0.1", "its certificate is not trusted: IP address mismatch"),
        ],
    )
    def test_is_done_without_when_it_is_not_trusted(
        self,
        tmp_path: Path,
        redis_url: str,
        front: TlsFront,
        request: pytest.FixtureRequest,
        who: str,
        host: str,
        reason: str,
    ) -> None:
        """Slower, not wrong; ``/readyz`` and the log say why."""
        with self.keeper(tmp_path, redis_url, front, request.getfixturevalue(who), host) as keeper:
            eventually(lambda: reason in readiness(keeper)["checks"]["cache"])

            assert readiness(keeper)["status"] == "degraded"
            assert kept(keeper, "a") != kept(keeper, "a")
            said = [line.get("reason") or "" for line in keeper.lines() if line["event"] == "redis_silent"]
            assert any(reason in each for each in said)


def readiness(door: Door) -> dict[str, Any]:
    """What it says at ``/readyz``."""
    answer: dict[str, Any] = requests.get(f"{door.url}/readyz", timeout=10).json()
    return answer


def kept(door: Door, key: str) -> str:
    """What it has kept under that key."""
    return str(requests.get(f"{door.url}/kept/{key}", timeout=10).json()["kept"])
