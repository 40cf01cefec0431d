from collections.abc import Callable
from typing import Any

import pytest
from nameko.exceptions import ConfigurationError

from cli.configuration import configuration
from cli.services import SERVICES
from services.chassis import config
from services.chassis.config import DEVELOPMENT_SECRET, KINDS, check, count, read

SECRET = "a-secret-that-is-long-enough-0123456789"


def settings(**changes: Any) -> dict[str, Any]:
    """Settings that a service can run with, but for the changes."""
    return {**configuration(), "AMQP_URI": "amqp://teller:pw@host:5672/oms", "JWT_SECRET": SECRET, **changes}


def complaint(**changes: Any) -> str:
    """What is said about these settings."""
    with pytest.raises(ConfigurationError) as raised:
        check(settings(**changes), "orders")
    return str(raised.value)


class TestCount:
    """How many there may be."""

    @pytest.mark.parametrize(("value", "meant"), [(0, 0), (1, 1), (200, 200)])
    def test_is_a_whole_number(self, value: int, meant: int) -> None:
        """0 is no limit."""
        assert read({"KEY": value}, "KEY", count) == meant

    @pytest.mark.parametrize("value", [-1, 1.5, True, False, "many", None, []])
    def test_is_refused_when_it_is_none(self, value: object) -> None:
        """With its key."""
        with pytest.raises(ConfigurationError, match="KEY"):
            read({"KEY": value}, "KEY", count)


class TestCheck:
    """What cannot work refuses to start, and says which key it is."""

    def test_the_defaults_work(self) -> None:
        """For every service of config.yaml."""
        for service in configuration()["HTTP_PORTS"]:
            check(settings(), service)

    def test_every_service_has_the_ports_that_the_commands_know(self) -> None:
        """For HTTP and HTTPS."""
        ports = {service.name: (service.http_port, service.https_port) for service in SERVICES.values()}
        found = configuration()

        assert {name: (port, found["HTTPS_PORTS"][name]) for name, port in found["HTTP_PORTS"].items()} == ports

    @pytest.mark.parametrize("key", KINDS)
    @pytest.mark.parametrize("value", [None, "", [], {}, object()])
    def test_no_setting_may_be_nothing(self, key: str, value: object) -> None:
        """Missing, empty or of no sensible kind."""
        assert complaint(**{key: value}).startswith(key)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("ENVIRONMENT", "prodution"),
            ("AMQP_URI", "http://host/"),
            ("AMQP_URI", "amqp:///"),
            ("AMQP_URI", "amqp://host:99999/"),
            ("AMQP_URI", "amqp://host:x/"),
            ("REDIS_URL", "host:6379"),
            ("HEARTBEAT", 0),
            ("HEARTBEAT", 1.5),
            ("HEARTBEAT", True),
            ("HTTP_SHARE_PORT", "yes"),
            ("HTTP_SHARE_PORT", 1),
            ("RPC_DEADLINE_SECONDS", -1),
            ("RPC_DEADLINE_SECONDS", float("nan")),
            ("RPC_DEADLINE_SECONDS", float("inf")),
            ("RPC_DEADLINE_SECONDS", 10**400),
            ("RETRY_DELAYS_MS", "1000"),
            ("RETRY_DELAYS_MS", 1000),
            ("RETRY_DELAYS_MS", [1000, 500]),
            ("RETRY_DELAYS_MS", [0, 500]),
            ("RETRY_DELAYS_MS", ["x"]),
            ("MAX_ATTEMPTS", 0),
            ("DB_POOL_SIZE", "many"),
            ("max_workers", -3),
            ("JWT_SECRET", "too short"),
            ("JWT_SECRET_PREVIOUS", "too short"),
            ("HTTP_PORTS", {}),
            ("HTTP_PORTS", {"gateway": 1}),
        ],
    )
    def test_wrong_values_are_named(self, key: str, value: object) -> None:
        """By their key, without the value: it may be a secret."""
        said = complaint(**{key: value})

        assert said.startswith(key)
        assert "too short" not in said

    @pytest.mark.parametrize("value", ["x", -1, 65536, 1.5, True, None, [1]])
    def test_a_port_is_a_port(self, value: object) -> None:
        """0 to 65535."""
        assert complaint(HTTP_PORTS={"orders": value}).startswith("orders")

    def test_a_port_may_be_free(self) -> None:
        """0 means any."""
        check(settings(HTTP_PORTS={"orders": 0}), "orders")

    @pytest.mark.parametrize("value", [-1, 65536, "http", True])
    def test_so_is_one_for_https(self, value: object) -> None:
        """It is named, too."""
        assert complaint(HTTPS_PORTS={"orders": value}).startswith("orders")

    @pytest.mark.parametrize("ports", [None, {}, {"orders": 0}, {"orders": None}, {"gateway": "x"}])
    def test_https_needs_no_port(self, ports: object) -> None:
        """Then there is none."""
        check(settings(HTTPS_PORTS=ports), "orders")


class TestBrokerTls:
    """What py-amqp is told."""

    def test_is_nothing_without_tls(self) -> None:
        """As most run at home."""
        assert config.broker_tls({"AMQP_URI": "amqp://a:b@rabbit/oms", "AMQP_SSL": None}) is None

    def test_checks_the_name_in_the_url(self) -> None:
        """Also when nothing else is said: authorities are those of the system then."""
        assert config.broker_tls({"AMQP_URI": "amqps://a:b@rabbit.example:5671/oms"}) == {
            "server_hostname": "rabbit.example"
        }

    def test_takes_what_is_given(self) -> None:
        """A name of its own, too."""
        given = {"ca_certs": __file__, "server_hostname": "other.example"}

        assert config.broker_tls({"AMQP_URI": "amqps://a:b@rabbit.example/oms", "AMQP_SSL": given}) == given

    @pytest.mark.parametrize("given", ["/path/ca.pem", ["/path/ca.pem"], True, {"ca_certs": "/nowhere/ca.pem"}])
    def test_must_make_sense(self, given: object) -> None:
        """A mapping with files that can be read."""
        assert complaint(AMQP_SSL=given).startswith("AMQP_SSL")


class TestProduction:
    """What is convenient in development does not start in production."""

    def test_real_secrets_work(self) -> None:
        """And nothing more is asked."""
        check(settings(ENVIRONMENT="production"), "orders")

    @pytest.mark.parametrize("key", ["JWT_SECRET", "JWT_SECRET_PREVIOUS"])
    def test_the_development_secret_is_refused(self, key: str) -> None:
        """Everybody knows it; also while secrets are being replaced."""
        assert complaint(ENVIRONMENT="production", **{key: DEVELOPMENT_SECRET}).startswith(key)

    @pytest.mark.parametrize(
        "url", ["amqp://guest:guest@host/", "amqp://host/", "amqp://:pw@host/", "amqp://gu%65st:pw@host/"]
    )
    def test_the_guest_account_is_refused(self, url: str) -> None:
        """Spelled out, implied or disguised."""
        assert complaint(ENVIRONMENT="production", AMQP_URI=url).startswith("AMQP_URI")

    def test_config_yaml_holds_the_secret_that_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A production without JWT_SECRET in its environment does not start."""
        monkeypatch.delenv("JWT_SECRET", raising=False)

        assert configuration()["JWT_SECRET"] == DEVELOPMENT_SECRET


class TestRead:
    """One setting as its kind."""

    @pytest.mark.parametrize(
        ("kind", "value", "result"),
        [
            (config.whole, "7", 7),
            (config.whole, 7.0, 7),
            (config.positive, "0.5", 0.5),
            (config.flag, False, False),
            (config.milliseconds, [1, 1, 5], (1, 1, 5)),
            (config.port, "80", 80),
            (config.count, 0, 0),
            (config.count, "7", 7),
            (config.url("redis"), "redis://:pw@[::1]:6379/0", "redis://:pw@[::1]:6379/0"),
            (int, "3", 3),
        ],
    )
    def test_gives_the_value(self, kind: Callable[[Any], object], value: object, result: object) -> None:
        """As numbers, not as text."""
        assert read({"KEY": value}, "KEY", kind) == result
