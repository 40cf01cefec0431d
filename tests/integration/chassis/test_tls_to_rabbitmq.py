"""RabbitMQ over TLS, by ``amqps://`` and AMQP_SSL: the right authority works, a wrong one is named."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cli.broker import Broker
from cli.configuration import configuration
from cli.dead_letters import connected
from cli.files import make_folder
from cli.servers.endpoints import Endpoints, Management
from cli.servers.private import Servers
from cli.servers.vhosts import Vhosts
from cli.shell import context
from cli.trouble import Trouble
from tests.support.certificates import Papers, over_tls
from tests.support.theatre import EVENT, Theatre, an_event
from tests.support.until import eventually


@dataclass(frozen=True)
class SecureBroker:
    """A RabbitMQ with TLS beside plain AMQP, and a theatre whose services use TLS."""

    servers: Servers
    theatre: Theatre
    port: int
    management: Management
    papers: Papers

    def url(self, user: str = "", host: str = "localhost") -> str:
        """The theatre's virtual host over TLS, as the administrator unless a user is named."""
        plain = self.theatre.amqp_url(user) if user else self.theatre.vhost.amqp_url
        return over_tls(plain, "amqps", self.port, host=host)

    def connections(self, *users: str) -> list[dict[str, Any]]:
        """Those that these users have, as the broker sees them."""
        found = self.theatre.vhost.broker.get("vhosts", self.theatre.vhost.name, "connections")
        return [each for each in found if each["user"] in users]

    def told(self, name: str, papers: Papers, host: str = "localhost") -> dict[str, str]:
        """The environment of a service that trusts that authority only."""
        trust = json.dumps({"ca_certs": str(papers.authority)})
        return {"AMQP_URI": self.url(name, host), "AMQP_SSL": trust, "HEARTBEAT": "1"}


def tls_configuration(papers: Papers, port: int, management_port: int) -> str:
    """What RabbitMQ must be told more."""
    files = {"cacertfile": papers.authority, "certfile": papers.certificate, "keyfile": papers.key}
    lines = [f"listeners.ssl.1 = 127.0.0.1:{port}", "ssl_options.verify = verify_none"]
    lines += [f"management.ssl.ip = 127.0.0.1\nmanagement.ssl.port = {management_port}"]
    lines += [
        f"{prefix}.{name} = {file}" for prefix in ("ssl_options", "management.ssl") for name, file in files.items()
    ]
    return "\n".join([*lines, ""])


@pytest.fixture(scope="module")
def broker(
    servers: Endpoints, folder: Path, papers: Papers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SecureBroker]:
    """The two services at work over TLS."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMS_RABBITMQ_URL", "OMS_RABBITMQ_MANAGEMENT_URL"):
            patch.delenv(name, raising=False)  # a broker that is given may not be told more
        own = Servers(folder / "broker", durable=False)
        recipe = own.recipes.rabbitmq
        port, management_port = (recipe.ports.take(name) for name in ("tls", "tls-management"))
        extra = make_folder(recipe.home / "conf.d") / "tls.conf"
        extra.write_text(tls_configuration(papers, port, management_port))
        try:
            found = own.start(postgres=False, valkey=False)
            endpoints = replace(servers, amqp_url=found.amqp_url, management=found.management)
            theatre = Theatre(tmp_path_factory.mktemp("tls"), endpoints, Vhosts(endpoints).make_vhost())
            management = replace(
                found.management, url=f"https://localhost:{management_port}", authority=str(papers.authority)
            )
            broker = SecureBroker(own, theatre, port, management, papers)
            try:
                theatre.teller = theatre.add("teller", **broker.told("teller", papers))
                theatre.listener = theatre.add("listener", **broker.told("listener", papers))
                eventually(lambda: theatre.teller.is_ready and theatre.listener.is_ready)
                yield broker
            finally:
                theatre.close()
        finally:
            own.remove()


class TestRabbitMQ:
    """A broker over TLS: ``amqps://`` and AMQP_SSL."""

    def test_carries_events_and_calls(self, broker: SecureBroker) -> None:
        """Publishers and consumers alike, and nobody by another way."""
        events = broker.theatre.tell(*"abcdefgh")

        eventually(lambda: broker.theatre.seen(*events) == len(events))
        status, document, _ = broker.theatre.ask_over_http("fine")
        assert status == 200, document
        ways = eventually(lambda: {each["ssl"] for each in broker.connections("teller", "listener")})
        assert ways == {True}

    def test_keeps_an_idle_connection(self, broker: SecureBroker) -> None:
        """That of the consumer and that for calls, by heartbeats: without them the broker would cut them off."""
        eventually(lambda: broker.theatre.ask_over_http("fine")[0] == 200)
        before: dict[str, int] = {}

        def has_kept_all() -> bool:
            found = broker.connections("listener")
            now = {each["name"]: each["recv_cnt"] for each in found if "recv_cnt" in each}
            if before.keys() != now.keys():  # an earlier test may have cost one, and the figures come late
                before.clear()
                before.update(now)
            return len(before) > 1 and all(now[name] >= count + 6 for name, count in before.items())

        assert eventually(has_kept_all)

    @pytest.mark.parametrize(
        ("who", "host", "reason"),
        [
            ("strangers", "localhost", "its certificate is not trusted: self-signed certificate in certificate chain"),
            ("papers", "127.0.0.1", "its certificate is not trusted: IP address mismatch"),
        ],
    )
    def test_is_refused_by_name_when_it_is_not_trusted(
        self, broker: SecureBroker, request: pytest.FixtureRequest, who: str, host: str, reason: str
    ) -> None:
        """At ``/readyz`` and in the log; the service waits for a better one."""
        told = broker.told("listener", request.getfixturevalue(who), host)
        actor = broker.theatre.add("listener", **told)

        eventually(lambda: reason in actor.readiness()[1])
        assert actor.readiness()[0] == 503
        errors = [line["error"] for line in actor.lines() if line["event"] == "broker_connection_lost"]
        assert any(reason in error for error in errors)
        assert "password" not in actor.log.read_text()
        actor.kill()

    def test_whose_authority_cannot_be_read_refuses_to_start(self, broker: SecureBroker) -> None:
        """In one line that names the setting."""
        told = broker.told("listener", Papers(*[Path("/nowhere")] * 3))
        actor = broker.theatre.add("listener", **told)

        assert actor.child.process.wait(30) == 1
        assert "Error: AMQP_SSL: ca_certs /nowhere cannot be read" in actor.log.read_text()

    def test_that_freezes_is_given_up_and_found_again(self, broker: SecureBroker) -> None:
        """Nobody waits for its goodbye: callers have their answer, and everything goes on afterwards."""
        broker.servers.freeze("rabbitmq")
        try:
            status, _, _ = broker.theatre.ask_over_http("fine")
            eventually(lambda: broker.theatre.listener.readiness()[0] == 503)
        finally:
            broker.servers.thaw("rabbitmq")

        assert status in (503, 504)
        eventually(lambda: broker.theatre.teller.is_ready and broker.theatre.listener.is_ready)
        (event,) = broker.theatre.tell("x")
        eventually(lambda: broker.theatre.seen(event) == 1)

    def test_is_reached_by_the_shell(self, broker: SecureBroker, monkeypatch: pytest.MonkeyPatch) -> None:
        """And by whatever else reads config.yaml."""
        for name, value in broker.told("", broker.papers).items():
            monkeypatch.setenv(name, value)
        event = an_event()

        context(configuration())["n"].dispatch_event("teller", EVENT, event)

        eventually(lambda: broker.theatre.seen(event["event_id"]) == 1)

    def test_is_reached_by_the_commands(self, broker: SecureBroker, strangers: Papers) -> None:
        """Over AMQP and over the management API, which trust the same authority and no other."""
        trust = {"ca_certs": str(broker.papers.authority)}
        with connected(broker.url(), trust) as connection, closing(connection.channel()) as channel:
            channel.exchange_declare("teller.events", "topic", passive=True)
        assert Broker(broker.management).get("overview")["rabbitmq_version"]

        with (
            pytest.raises(Trouble, match="CERTIFICATE_VERIFY_FAILED"),
            connected(broker.url(), {"ca_certs": str(strangers.authority)}),
        ):
            pass
        with pytest.raises(Trouble, match="CERTIFICATE_VERIFY_FAILED"):
            Broker(replace(broker.management, authority=str(strangers.authority))).get("overview")
