"""Limits of the gateway, counted in a real Redis by two instances, or without one."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests
from redis import Redis

from cli.servers.endpoints import Endpoints
from services.chassis.cache import Link
from services.chassis.rate_limits import Tally
from tests.integration.gateway.door import Door, a_token, check_problem

FAKED = ["-m", "nameko", "run", "tests.integration.gateway.fake_peers:FakedGateway", "--config"]
LIMITS = {
    "TRUSTED_PROXIES": ["127.0.0.0/8"],
    "RATE_LOGIN": "20/hour",
    "RATE_LOGIN_FAILURES": "3/hour",
    "RATE_ACCOUNT_FAILURES": "50/hour",
    "RATE_REGISTRATION": "2/hour",
    "RATE_REFRESH": "2/hour",
    "RATE_ORDER": "2/hour",
    "max_workers": 20,
}


@pytest.fixture(scope="module")
def redis(servers: Endpoints) -> Iterator[Redis]:
    """The Redis of both doors, without what an earlier run has counted."""
    with Redis.from_url(servers.redis_url) as client:
        for key in client.scan_iter("gateway:rate:*"):
            client.delete(key)
        yield client


@pytest.fixture(scope="module")
def doors(servers: Endpoints, redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Door]]:
    """Two instances of one gateway."""
    with ExitStack() as running:
        settings = {**LIMITS, "REDIS_URL": servers.redis_url}
        yield [
            running.enter_context(Door(tmp_path_factory.mktemp("gateway"), "gateway", FAKED, **settings))
            for _ in range(2)
        ]


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """An instance whose Redis is away."""
    with Door(tmp_path_factory.mktemp("gateway"), "gateway", FAKED, **LIMITS) as door:
        yield door


def post(door: Door, path: str, client: str, token: str | None = None, **body: str) -> requests.Response:
    """The answer to a client behind a trusted proxy."""
    headers = {"X-Forwarded-For": client, **({"Authorization": f"Bearer {token}"} if token else {})}
    return requests.post(door.url + path, json=body, headers=headers, timeout=10)


class TestLimit:
    """How often a route may be asked."""

    @pytest.mark.parametrize(
        ("path", "name", "client"),
        [
            ("/api/auth/register", "registration", "192.0.2.1"),
            ("/api/auth/refresh", "refresh", "192.0.2.2"),
            ("/api/order", "order", "192.0.2.3"),
        ],
    )
    def test_is_told_and_held_by_all_instances_together(
        self, doors: list[Door], path: str, name: str, client: str
    ) -> None:
        """The fields count down, then it is 429 with Retry-After."""
        token = a_token() if name == "order" else None

        first, second, third = (post(door, path, client, token) for door in (*doors, doors[0]))

        assert first.ok, first.text
        assert first.headers["RateLimit-Policy"] == f'"{name}";q=2;w=3600'
        assert first.headers["RateLimit"].startswith(f'"{name}";r=1;t=')
        assert second.headers["RateLimit"].startswith(f'"{name}";r=0;t=')
        check_problem(third.json(), 429, third.headers)
        assert third.json()["code"] == "rate_limited"
        assert 0 < int(third.headers["Retry-After"]) <= 3600
        assert third.headers["RateLimit"].startswith(f'"{name}";r=0;t=')

    def test_is_each_clients_own(self, doors: list[Door]) -> None:
        """By address, and for orders by user."""
        for _ in range(3):
            post(doors[0], "/api/auth/register", "192.0.2.4")

        assert post(doors[0], "/api/auth/register", "192.0.2.5").ok
        for _ in range(3):
            assert post(doors[0], "/api/order", "192.0.2.4", a_token()).ok

    def test_is_no_secret_to_prometheus(self, doors: list[Door]) -> None:
        """Refused requests are counted."""
        for _ in range(3):
            post(doors[0], "/api/auth/refresh", "192.0.2.7")

        assert 'oms_rate_limited_total{limit="refresh"}' in requests.get(f"{doors[0].url}/metrics", timeout=5).text

    def test_leaves_nobodys_name_in_redis(self, doors: list[Door], redis: Redis) -> None:
        """Keys are hashes under the gateway's prefix, and each has its end."""
        post(doors[0], "/api/auth/login", "192.0.2.8", email="ada@example.com", password="wrong")

        names = [bytes(key).decode() for key in redis.scan_iter()]
        mine = [name for name in names if name.startswith("gateway:rate:")]
        assert {name.split(":")[2] for name in mine} >= {"login", "login-failures", "login-failures-everywhere"}
        assert not [name for name in names if "example.com" in name or "192.0.2" in name]
        assert all(redis.pttl(name) > 0 for name in mine)


class TestLogin:
    """Guessing passwords."""

    def test_ends_after_a_few_wrong_ones(self, doors: list[Door]) -> None:
        """At whichever instance; the owner, from elsewhere, meets nothing of it."""
        path, account = "/api/auth/login", "eve@example.com"

        wrong = [post(doors[number % 2], path, "192.0.2.9", email=account, password="wrong") for number in range(4)]
        right = post(doors[0], path, "192.0.2.9", email=account.upper(), password="right")
        owner = post(doors[0], path, "192.0.2.10", email=account, password="right")

        assert [answer.status_code for answer in wrong] == [401, 401, 401, 429]
        assert (right.status_code, owner.status_code) == (429, 200)
        assert '"login-failures";r=3' in owner.headers["RateLimit"]
        assert wrong[0].headers["RateLimit-Policy"] == '"login";q=20;w=3600, "login-failures";q=3;w=3600'


class TestTally:
    """What counts."""

    def test_counts_each_once_when_all_come_at_once(self, servers: Endpoints, redis: Redis) -> None:
        """One atomic step each, also the first of a window: no two see the same count."""
        redis.delete("test:crowd")
        tallies = [Tally(Link(servers.redis_url, deadline_seconds=30), "test") for _ in range(8)]

        with ThreadPoolExecutor(len(tallies)) as crowd:
            counts = list(crowd.map(lambda number: tallies[number % 8].add("crowd", 600, 1).spent, range(400)))

        assert sorted(counts) == [*range(1, 401)]
        assert 0 < redis.ttl("test:crowd") <= 600

    def test_takes_back(self, servers: Endpoints, redis: Redis) -> None:
        """Also what was counted in a window that has ended."""
        redis.delete("test:back")
        tally = Tally(Link(servers.redis_url, deadline_seconds=30), "test")

        assert [tally.add("back", 600, amount).spent for amount in (5, -5, -1, 1, 1)] == [5, 0, -1, 0, 1]
        assert 0 < redis.ttl("test:back") <= 600


class TestWithoutRedis:
    """Redis away."""

    def test_holds_all_the_same(self, lonely: Door) -> None:
        """In the process."""
        answers = [post(lonely, "/api/auth/register", "192.0.2.1") for _ in range(4)]

        assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) > 0

    def test_tells_attempts_that_fail_from_those_that_do_not(self, lonely: Door) -> None:
        """As with Redis."""
        login = "/api/auth/login"
        right = [post(lonely, login, "192.0.2.2", email="a@example.com", password="right") for _ in range(5)]
        wrong = [post(lonely, login, "192.0.2.2", email="a@example.com", password="wrong") for _ in range(4)]

        assert [answer.status_code for answer in (*right, *wrong)] == [200] * 5 + [401] * 3 + [429]

    def test_lets_in_exactly_as_many_when_all_come_at_once(self, lonely: Door) -> None:
        """Requests as well as wrong passwords: a try is taken before it is judged."""
        login = "/api/auth/login"
        with ThreadPoolExecutor(20) as crowd:
            many = list(
                crowd.map(lambda each: post(lonely, login, "192.0.2.3", email=f"{each}@example.com"), range(40))
            )
            wrong = list(
                crowd.map(
                    lambda _: post(lonely, login, "192.0.2.4", email="zoe@example.com", password="wrong"), range(12)
                )
            )

        assert Counter(answer.status_code for answer in many) == {200: 20, 429: 20}
        assert Counter(answer.status_code for answer in wrong) == {401: 3, 429: 9}
