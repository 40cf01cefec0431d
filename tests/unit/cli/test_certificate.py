"""The cluster's own certificate is made once, and again when it must be."""

import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine

from cli.certificate import Certificate, certificate_of
from cli.environments import Surroundings, read_environment, write_environment
from cli.servers.endpoints import Endpoints
from cli.state import State
from cli.trouble import Trouble
from tests.support.certificates import issue

AROUND = Endpoints(amqp_url="amqp://a:b@127.0.0.1:1/oms")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """An empty folder of a cluster, and no certificate in the environment."""
    for name in ("OMS_TLS_CERTIFICATE", "OMS_TLS_KEY", "AMQP_SSL"):
        monkeypatch.delenv(name, raising=False)
    state = State(tmp_path / "cluster")
    state.make()
    return state


def content(own: Certificate) -> tuple[bytes, bytes]:
    """What the two files hold."""
    return own.certificate.read_bytes(), own.key.read_bytes()


class TestOwnCertificate:
    """What ``up`` makes for itself."""

    def test_is_for_this_machine_and_its_key_for_the_owner_only(self, state: State) -> None:
        """Everybody may read whom to trust."""
        own = certificate_of(state)

        assert own.authority == state.authority
        assert stat.S_IMODE(own.key.stat().st_mode) == 0o600
        assert stat.S_IMODE(state.authority.stat().st_mode) == 0o644
        shown = ssl._ssl._test_decode_cert(str(own.certificate))  # type: ignore[attr-defined]
        assert {value for _, value in shown["subjectAltName"]} == {"localhost", "127.0.0.1", "0:0:0:0:0:0:0:1"}

    def test_leaves_no_key_with_which_to_make_another(self, state: State) -> None:
        """The only one there is belongs to the certificate."""
        certificate_of(state)

        keys = [file.name for file in state.folder.rglob("*") if file.is_file() and b"PRIVATE KEY" in file.read_bytes()]
        assert keys == ["key.pem"]

    def test_stays_while_it_is_good(self, state: State) -> None:
        """Who has come to trust it goes on to."""
        assert content(certificate_of(state)) == content(certificate_of(state))

    def test_is_made_anew_before_it_ends(self, state: State) -> None:
        """In its last month."""
        before = content(certificate_of(state))

        with time_machine.travel(datetime.now(UTC) + timedelta(days=760), tick=False):
            assert content(certificate_of(state)) == before
        with time_machine.travel(datetime.now(UTC) + timedelta(days=775), tick=False):
            assert content(certificate_of(state)) != before

    @pytest.mark.parametrize("name", ["certificate.pem", "key.pem", "ca.pem"])
    @pytest.mark.parametrize("left", [None, b"", b"\0\0\0", "another's"])
    def test_is_made_anew_when_a_file_is_damaged(self, state: State, name: str, left: bytes | str | None) -> None:
        """A power cut leaves anything, and files that do not belong together are no better."""
        before = content(certificate_of(state))
        file = state.tls / name
        if left == "another's":
            other = State(state.folder.parent / "other")
            certificate_of(other)
            shutil.copy(other.tls / name, file)
        elif isinstance(left, bytes):
            file.write_bytes(left)
        else:
            file.unlink()

        after = certificate_of(state)

        assert content(after) != before
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(after.certificate, after.key)


class TestGivenCertificate:
    """One that the environment names."""

    def test_is_used_instead(self, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And none is made."""
        papers = issue(tmp_path / "given")
        monkeypatch.setenv("OMS_TLS_CERTIFICATE", str(papers.certificate))
        monkeypatch.setenv("OMS_TLS_KEY", str(papers.key))

        assert certificate_of(state) == Certificate(papers.certificate, papers.key, None)
        assert not state.tls.exists()

    def test_must_be_there(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """Or it is named."""
        monkeypatch.setenv("OMS_TLS_CERTIFICATE", "/nowhere/certificate.pem")

        with pytest.raises(Trouble, match=r"/nowhere/certificate\.pem cannot be read"):
            certificate_of(state)


class TestEnvironment:
    """What a service is told."""

    def test_names_the_certificate_and_is_easy_on_browsers(self, state: State) -> None:
        """With one of our own a browser is told for a minute; the operator needs none of it."""
        around = Surroundings(AROUND, {}, certificate_of(state))
        for instance in ("gateway", "operator"):
            write_environment(state, instance, around, running=False)

        told = read_environment(state, "gateway")
        assert (told["TLS_CERTIFICATE"], told["TLS_KEY"]) == (f"{state.tls}/certificate.pem", f"{state.tls}/key.pem")
        assert told["HSTS_SECONDS"] == "60"
        assert "TLS_KEY" not in read_environment(state, "operator")

    def test_leaves_hsts_as_it_is_with_a_real_one(self, state: State) -> None:
        """The default of config.yaml holds."""
        around = Surroundings(AROUND, {}, Certificate(Path("/a"), Path("/b"), None))
        write_environment(state, "gateway", around, running=False)

        assert "HSTS_SECONDS" not in read_environment(state, "gateway")

    def test_passes_on_how_to_reach_a_broker_over_tls(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """To every service and the operator."""
        monkeypatch.setenv("AMQP_SSL", "{ca_certs: /etc/it's/ca.pem}")
        for instance in ("gateway", "operator"):
            write_environment(state, instance, Surroundings(AROUND, {}), running=False)

            assert read_environment(state, instance)["AMQP_SSL"] == "{ca_certs: /etc/it's/ca.pem}"
