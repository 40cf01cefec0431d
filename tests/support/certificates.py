"""Certificates for tests: an authority of the test's own, and what it vouches for."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import trustme


@dataclass(frozen=True)
class Papers:
    """A certificate with its key, and the certificate of the authority that issued it."""

    authority: Path
    certificate: Path
    key: Path

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts that knows the authority."""
        return ssl.create_default_context(cafile=str(self.authority))


def issue(folder: Path, *names: str) -> Papers:
    """Papers for a server of these names, by default those of this machine; every call is another authority."""
    folder.mkdir(parents=True, exist_ok=True)
    papers = Papers(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert(*(names or ("localhost", "127.0.0.1")))
    authority.cert_pem.write_to_path(papers.authority)
    papers.certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(papers.key)
    for file in (papers.authority, papers.certificate, papers.key):
        file.chmod(0o644)  # a server may run as somebody else
    return papers


def over_tls(url: str, scheme: str, port: int, query: str = "", host: str = "localhost") -> str:
    """The same URL by TLS at that port."""
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(scheme=scheme, netloc=f"{login}{at}{host}:{port}", query=query).geturl()
