"""Whose request it is, as far as an address can tell.

The peer's address counts. What a forwarding header says counts only as far as it was written by proxies that the
configuration trusts: everything to the left of the first stranger may be that stranger's invention.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from services.chassis.config import Network, networks, one_of, read

FORWARDED: Final = "Forwarded"
FORWARDED_FOR: Final = "X-Forwarded-For"

HOME_BITS: Final = 64
"""An IPv6 client has at least so much for itself and may come from any address in it."""

MOST_HOPS: Final = 20

Address = IPv4Address | IPv6Address

_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*("?)([^";]*)\1\s*(?:;|$)', re.IGNORECASE)
_PORT: Final = re.compile(r":[0-9]{1,5}$")


@dataclass(frozen=True)
class TrustedProxies:
    """The proxies in front of this service, and the one header in which they say for whom they ask.

    One header and not either: a proxy passes on what it does not know, so the other one is the client's to invent.
    """

    networks: tuple[Network, ...] = ()
    header: str = FORWARDED_FOR

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "TrustedProxies":
        """Those that a configuration names."""
        return cls(
            read(config, "TRUSTED_PROXIES", networks), read(config, "PROXY_HEADER", one_of(FORWARDED_FOR, FORWARDED))
        )

    def client_of(self, environ: Mapping[str, Any]) -> str:
        """The nearest address that is no trusted proxy's; of an IPv6 address its /64, of none at all ``unknown``."""
        hop = address(environ.get("REMOTE_ADDR", ""))
        for claimed in self._claims(environ):
            if hop is None or not self._trusts(hop):
                break
            further = address(claimed)
            if further is None:
                break
            hop = further
        return "unknown" if hop is None else home_of(hop)

    def _trusts(self, hop: Address) -> bool:
        return any(hop in network for network in self.networks if network.version == hop.version)

    def _claims(self, environ: Mapping[str, Any]) -> Iterator[str]:
        """For whom each proxy says that it asks, the nearest proxy first."""
        field = str(environ.get(f"HTTP_{self.header.upper().replace('-', '_')}", ""))
        for hop in reversed(field.split(",")[-MOST_HOPS:]):
            if self.header == FORWARDED_FOR:
                yield hop
            else:
                match = _FOR.search(hop)
                yield match[2] if match else ""


def address(text: str) -> Address | None:
    """The IP address in a text that may also have brackets and a port; IPv4 where IPv6 only wraps it."""
    bare = text.strip()
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = _PORT.sub("", bare)
    try:
        found = ip_address(bare.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


def home_of(found: Address) -> str:
    """What one client has for itself: an IPv4 address, or the /64 of an IPv6 address."""
    return str(found) if found.version == 4 else str(ip_network((found, HOME_BITS), strict=False))
