"""What limits do while Redis is away: the process counts by itself. With Redis: ``tests/integration/gateway``."""

import socket
from contextlib import closing
from typing import TypeVar

import pytest
from nameko.exceptions import ConfigurationError
from werkzeug.test import EnvironBuilder

from services.chassis.cache import Link
from services.chassis.config import Rate, rate, read
from services.chassis.errors import TimedOut, Unauthenticated
from services.chassis.http_app import Request
from services.chassis.metrics import RATE_LIMITED
from services.chassis.problems import Refusal
from services.chassis.rate_limits import Guesses, GuessLimit, RateLimit, Requests, Tally
from tests.support.fakes import Container

Limiting = TypeVar("Limiting", bound=RateLimit | GuessLimit)

NOWHERE = "redis://127.0.0.1:9/0"
SETTINGS = {
    "REDIS_URL": NOWHERE,
    "JWT_SECRET": "a-secret-of-this-test-run-0123456789",
    "TRUSTED_PROXIES": [],
    "PROXY_HEADER": "Forwarded",
    "FEW": "3/minute",
    "SOME": "10/15minutes",
    "NONE": 0,
}


def a_request(peer: str = "198.51.100.7") -> Request:
    """A request from that address."""
    return Request(EnvironBuilder(environ_overrides={"REMOTE_ADDR": peer}).get_environ())


class House:
    """Limits of one service."""

    def __init__(self) -> None:
        self.container = Container("gateway", SETTINGS)

    def requests(self, name: str, setting: str) -> Requests:
        """The count of requests."""
        return self.set_up(RateLimit(name, setting)).get_dependency(None)

    def guesses(self, setting: str, everywhere: str) -> Guesses:
        """The count of guesses."""
        return self.set_up(GuessLimit("guess", setting, everywhere)).get_dependency(None)

    def set_up(self, extension: Limiting) -> Limiting:
        """The extension as a container sets it up."""
        bound: Limiting = extension.bind(self.container, "limit")
        bound.counters.setup()
        bound.setup()
        return bound


@pytest.fixture
def house() -> House:
    """A service without Redis."""
    return House()


def fail(guesses: Guesses, account: object = "ada@example.com", peer: str = "198.51.100.7") -> Request:
    """A wrong password; raises Refusal where it is not even tried."""
    request = a_request(peer)
    with pytest.raises(Unauthenticated), guesses.watch(request, account):
        raise Unauthenticated("credentials_invalid", "No.")
    return request


def succeed(guesses: Guesses, account: object = "ada@example.com", peer: str = "198.51.100.7") -> Request:
    """The right password; raises Refusal where it is not even tried."""
    request = a_request(peer)
    with guesses.watch(request, account):
        pass
    return request


class TestRate:
    """A rate as config.yaml has it."""

    @pytest.mark.parametrize(
        ("text", "meant"),
        [
            ("300/minute", Rate(300, 60)),
            ("10/15minutes", Rate(10, 900)),
            ("1/second", Rate(1, 1)),
            ("5/2days", Rate(5, 172800)),
            (0, None),
        ],
    )
    def test_is_so_many_in_so_much_time(self, text: object, meant: Rate | None) -> None:
        """Or 0 for none."""
        assert read({"KEY": text}, "KEY", rate) == meant

    @pytest.mark.parametrize("wrong", ["", "0", "0/minute", "10", "10/0minutes", "10/week", "-1/hour", 5, True, False])
    def test_is_refused_when_it_is_none(self, wrong: object) -> None:
        """With the key and an example."""
        with pytest.raises(ConfigurationError, match="KEY must be a rate such as 300/minute"):
            read({"KEY": wrong}, "KEY", rate)


class TestRequests:
    """Requests that are counted."""

    def test_are_refused_above_the_limit(self, house: House) -> None:
        """429, when to come back, what is left, and a metric."""
        requests = house.requests("few", "FEW")
        before = RATE_LIMITED.labels("few")._value.get()
        for left in (2, 1, 0):
            request = a_request()
            requests.count(request)
            assert request.answer_headers["RateLimit-Policy"] == '"few";q=3;w=60'
            assert request.answer_headers["RateLimit"].startswith(f'"few";r={left};t=')

        request = a_request()
        with pytest.raises(Refusal) as refusal:
            requests.count(request)

        assert (refusal.value.status, refusal.value.code) == (429, "rate_limited")
        assert 0 < int(refusal.value.headers["Retry-After"]) <= 60
        assert request.answer_headers["RateLimit"].startswith('"few";r=0;t=')
        assert RATE_LIMITED.labels("few")._value.get() == before + 1

    def test_are_counted_by_address_or_user(self, house: House) -> None:
        """Nobody pays for others."""
        requests = house.requests("few", "FEW")
        for _ in range(3):
            requests.count(a_request("198.51.100.7"))
            requests.count(a_request("198.51.100.7"), "a-user")

        requests.count(a_request("198.51.100.8"))
        requests.count(a_request("198.51.100.7"), "another-user")
        with pytest.raises(Refusal):
            requests.count(a_request("198.51.100.8"), "a-user")

    def test_are_free_without_a_limit(self, house: House) -> None:
        """No count, no fields."""
        requests = house.requests("none", "NONE")

        for _ in range(20):
            request = a_request()
            requests.count(request)
            assert request.answer_headers == {}

    def test_tell_of_every_limit_they_met(self, house: House) -> None:
        """As a list of the standard's."""
        request = a_request()

        house.requests("few", "FEW").count(request)
        house.requests("some", "SOME").count(request)

        assert request.answer_headers["RateLimit-Policy"] == '"few";q=3;w=60, "some";q=10;w=900'


class TestGuesses:
    """Tries to log in."""

    def test_count_when_they_fail(self, house: House) -> None:
        """Then even the right password is refused, from there."""
        guesses = house.guesses("FEW", "NONE")
        for _ in range(3):
            request = fail(guesses)

        assert request.answer_headers["RateLimit"].startswith('"guess";r=0;t=')
        with pytest.raises(Refusal) as refusal:
            succeed(guesses)
        assert refusal.value.status == 429

    def test_lock_nobody_out_elsewhere(self, house: House) -> None:
        """A stranger's failures are the stranger's own, however many there are."""
        guesses = house.guesses("FEW", "FEW")
        for host in range(20):
            fail(guesses, peer=f"203.0.113.{host}")

        request = succeed(guesses, peer="198.51.100.7")

        assert request.answer_headers["RateLimit"].startswith('"guess";r=3;t=')

    def test_count_for_more_while_the_account_is_under_attack(self, house: House) -> None:
        """From a new address two tries instead of ten."""
        guesses = house.guesses("SOME", "FEW")
        for host in range(4):
            fail(guesses, peer=f"203.0.113.{host}")

        fail(guesses)
        fail(guesses)

        with pytest.raises(Refusal):
            fail(guesses)
        request = fail(guesses, account="somebody.else@example.com")
        assert request.answer_headers["RateLimit"].startswith('"guess";r=9;t=')

    def test_cost_nothing_unless_they_fail(self, house: House) -> None:
        """Whoever logs in often, or meets a service that is away, has all tries left."""
        guesses = house.guesses("FEW", "FEW")
        for _ in range(10):
            succeed(guesses)
            with pytest.raises(TimedOut), guesses.watch(a_request(), "ada@example.com"):
                raise TimedOut("timed_out", "No answer.")

        for _ in range(3):
            fail(guesses)

    def test_are_taken_before_they_are_judged(self, house: House) -> None:
        """Many at once are no more than one by one; what was refused counts for nothing."""
        guesses = house.guesses("FEW", "NONE")
        request = a_request()

        with guesses.watch(request, "a"), guesses.watch(request, "a"), guesses.watch(request, "a"):
            for _ in range(3):
                with pytest.raises(Refusal), guesses.watch(request, "a"):
                    pytest.fail("a fourth was let in")

        for _ in range(3):
            fail(guesses, account="a")

    def test_are_of_one_account_however_it_is_written(self, house: House) -> None:
        """As accounts are looked up."""
        guesses = house.guesses("FEW", "NONE")
        for account in ("ada@example.com", "ADA@example.com", " Ada@Example.com "):
            fail(guesses, account)

        with pytest.raises(Refusal):
            fail(guesses)

    @pytest.mark.parametrize("account", [None, 1, ["a"], {}])
    def test_leave_alone_what_names_no_account(self, house: House, account: object) -> None:
        """The service refuses it."""
        guesses = house.guesses("FEW", "NONE")

        for _ in range(5):
            fail(guesses, account)


class TestSilentRedis:
    """A Redis that takes connections and says nothing."""

    def test_is_asked_once_and_then_left_alone(self) -> None:
        """While nobody asks it, counting costs nothing."""
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            tally = Tally(Link(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", clock=lambda: 0.0), "test")

            counts = [tally.add("key", 60, 1).spent for _ in range(5)]

            silent.settimeout(0)
            silent.accept()[0].close()
            with pytest.raises(BlockingIOError):
                silent.accept()
        assert counts == [1, 2, 3, 4, 5]


class TestKey:
    """What stands in Redis."""

    def test_tells_nothing_of_whose_it_is(self, house: House) -> None:
        """A keyed hash: who has no secret cannot even check a guess."""
        counters = house.requests("few", "FEW").limit.counters
        key = counters.key("few", "ada@example.com", "198.51.100.7")

        counters.secret = b"another"
        assert "ada" not in key
        assert "198" not in key
        assert key.startswith("few:")
        assert counters.key("few", "ada@example.com", "198.51.100.7") != key

    def test_keeps_names_apart(self, house: House) -> None:
        """However they are cut."""
        counters = house.requests("few", "FEW").limit.counters

        assert len({counters.key("few", "a", "bc"), counters.key("few", "ab", "c"), counters.key("fe", "a", "bc")}) == 3

    def test_is_made_of_any_text(self, house: House) -> None:
        """Half a surrogate pair included."""
        assert house.requests("few", "FEW").limit.counters.key("few", "\ud800")
