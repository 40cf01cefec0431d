"""The certificate a cluster on this machine shows over HTTPS: its own, made at the first ``up``, or one that is given.

Its authority exists for a moment only: the authority's key is never written down, so whoever trusts it trusts this one
certificate and nothing else. A running service takes up a new one by itself.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import trustme
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from cli.files import make_folder, write_atomic
from cli.state import State
from cli.trouble import Trouble

NAMES: Final = ("localhost", "127.0.0.1", "::1")
LASTS: Final = timedelta(days=800)
"""Some clients take none that lasts longer than 825 days."""

RENEWED_BEFORE: Final = timedelta(days=30)


@dataclass(frozen=True)
class Certificate:
    """The files of a certificate; ``authority`` is what a client must be told to trust, None if it knows."""

    certificate: Path
    key: Path
    authority: Path | None


def certificate_of(state: State) -> Certificate:
    """The one that OMS_TLS_CERTIFICATE and OMS_TLS_KEY name, else the cluster's own, made or renewed when need be."""
    if given := os.environ.get("OMS_TLS_CERTIFICATE"):
        certificate, key = Path(given).absolute(), Path(os.environ.get("OMS_TLS_KEY") or given).absolute()
        for file in (certificate, key):
            if not os.access(file, os.R_OK):
                raise Trouble(f"{file} cannot be read. OMS_TLS_CERTIFICATE and OMS_TLS_KEY name PEM files.")
        return Certificate(certificate, key, None)
    own = Certificate(state.tls / "certificate.pem", state.tls / "key.pem", state.authority)
    if not is_good(own):
        make(own, state.authority)
    return own


def is_good(own: Certificate) -> bool:
    """Whether the three files are there, belong together and last for a while; a power cut leaves anything."""
    try:
        files = (own.certificate, own.authority or own.certificate)
        certificate, authority = (load_pem_x509_certificate(file.read_bytes()) for file in files)
        certificate.verify_directly_issued_by(authority)
        key = load_pem_private_key(own.key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, InvalidSignature):
        return False
    fits = key.public_key() == certificate.public_key()
    return fits and certificate.not_valid_after_utc - RENEWED_BEFORE > datetime.now(UTC)


def make(own: Certificate, authority_file: Path) -> None:
    """Make a certificate for this machine; only its owner may read the key."""
    authority = trustme.CA(organization_name="oms development", organization_unit_name=str(own.key.parent))
    issued = authority.issue_cert(*NAMES, not_after=datetime.now(UTC) + LASTS)
    make_folder(own.key.parent, 0o755)
    write_atomic(own.key, issued.private_key_pem.bytes().decode())
    write_atomic(own.certificate, "".join(blob.bytes().decode() for blob in issued.cert_chain_pems), 0o644)
    write_atomic(authority_file, authority.cert_pem.bytes().decode(), 0o644)
