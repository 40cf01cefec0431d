import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from eventlet.greenio import GreenSocket
from nameko.exceptions import ConfigurationError

from services.chassis.tls import Certificate, distrust, end_sending, hasten_end, shake_hands
from tests.support.certificates import Papers, issue


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """A certificate and its key."""
    return issue(tmp_path)


class TestCertificate:
    """What a server shows."""

    def test_is_none_where_none_is_configured(self) -> None:
        """Then there is no HTTPS."""
        assert Certificate.of({}) is None
        assert Certificate.of({"TLS_CERTIFICATE": None, "TLS_KEY": "/key.pem"}) is None

    def test_may_stand_in_one_file_with_its_key(self, tmp_path: Path) -> None:
        """Without TLS_KEY."""
        both = tmp_path / "both.pem"
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(both)

        assert Certificate.of({"TLS_CERTIFICATE": str(both)})

    def test_refuses_what_is_not_there(self, papers: Papers) -> None:
        """And names the setting."""
        with pytest.raises(ConfigurationError, match=r"TLS_CERTIFICATE or TLS_KEY cannot be used.*No such file"):
            Certificate.of({"TLS_CERTIFICATE": str(papers.certificate), "TLS_KEY": "/nowhere/key.pem"})

    def test_refuses_the_key_of_another(self, papers: Papers, tmp_path: Path) -> None:
        """Nobody could shake hands with it."""
        other = issue(tmp_path / "other")

        with pytest.raises(ConfigurationError, match="KEY_VALUES_MISMATCH"):
            Certificate.of({"TLS_CERTIFICATE": str(papers.certificate), "TLS_KEY": str(other.key)})

    def test_refuses_a_locked_key_without_asking_for_its_password(self, papers: Papers) -> None:
        """There may be nobody at the terminal."""
        key = serialization.load_pem_private_key(papers.key.read_bytes(), password=None)
        lock = serialization.BestAvailableEncryption(b"a password")
        locked = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
        papers.key.write_bytes(locked)

        with pytest.raises(ConfigurationError, match="cannot be used"):
            Certificate.of({"TLS_CERTIFICATE": str(papers.certificate), "TLS_KEY": str(papers.key)})

    def test_is_read_again_when_a_file_has_changed(self, papers: Papers, tmp_path: Path) -> None:
        """And only then; while the files do not fit each other the last good one is shown."""
        certificate, new = Certificate(str(papers.certificate), str(papers.key)), issue(tmp_path / "new")
        first = certificate._newest()

        assert certificate._newest() is first
        papers.certificate.write_bytes(new.certificate.read_bytes())
        assert certificate._newest() is first
        papers.key.unlink()
        assert certificate._newest() is first
        papers.key.write_bytes(new.key.read_bytes())
        assert certificate._newest() is not first


@pytest.fixture
def pair(papers: Papers) -> Iterator[tuple[Any, ssl.SSLSocket]]:
    """Our end of a connection after its handshake, and the client's; nobody waits longer than ten seconds."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(10)
    with ThreadPoolExecutor(1) as pool:
        wrapping = pool.submit(papers.trust.wrap_socket, theirs, server_hostname="localhost")
        connection = Certificate(str(papers.certificate), str(papers.key)).wrap(GreenSocket(ours))
        connection.settimeout(10)
        assert shake_hands(connection, 10)
        client = wrapping.result()
    with closing(connection), closing(client):
        yield connection, client


class TestEnd:
    """How a connection ends."""

    def test_is_told_to_the_client_who_may_go_on_sending(self, pair: tuple[Any, ssl.SSLSocket]) -> None:
        """A client that sees no goodbye takes what it has read for cut off."""
        ours, client = pair
        client.suppress_ragged_eofs = False  # type: ignore[attr-defined] # typeshed forgot it
        ours.sendall(b"the answer")

        end_sending(ours)

        assert (client.recv(100), client.recv(100)) == (b"the answer", b"")
        client.sendall(b"and another thing")
        assert ours.recv(100) == b"and another thing"

    def test_waits_for_nobodys_goodbye(self, pair: tuple[Any, ssl.SSLSocket]) -> None:
        """A frozen broker says none."""
        ours, _ = pair

        hasten_end(ours)

        with pytest.raises(ssl.SSLWantReadError):
            ours.unwrap()


class TestDistrust:
    """What is said of a server that is not trusted."""

    def test_gives_the_reason_wherever_it_hides(self) -> None:
        """In the error, its cause or what it was raised after."""
        verification = ssl.SSLCertVerificationError(1, "certificate verify failed")
        verification.verify_message = "unable to get local issuer certificate"
        wrapped, second = ConnectionError("no connection"), ConnectionError("again")
        wrapped.__cause__, second.__context__ = verification, wrapped

        said = "its certificate is not trusted: unable to get local issuer certificate"
        assert [distrust(each) for each in (verification, wrapped, second)] == [said] * 3

    @pytest.mark.parametrize("error", [ConnectionRefusedError(111, "refused"), TimeoutError(), ValueError("x")])
    def test_says_nothing_of_other_errors(self, error: Exception) -> None:
        """They are not about TLS."""
        assert distrust(error) == ""
