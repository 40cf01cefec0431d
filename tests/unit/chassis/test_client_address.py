from ipaddress import ip_network
from typing import Any

import pytest
from nameko.exceptions import ConfigurationError

from services.chassis.client_address import FORWARDED, FORWARDED_FOR, TrustedProxies

INSIDE = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))
FORWARDING = TrustedProxies(INSIDE, FORWARDED)
FOR = TrustedProxies(INSIDE, FORWARDED_FOR)


def environ(peer: str, forwarded_for: str | None = None, forwarded: str | None = None) -> dict[str, str]:
    """A request from this peer with these header fields."""
    fields = {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded_for, "HTTP_FORWARDED": forwarded}
    return {name: value for name, value in fields.items() if value is not None}


class TestClientOf:
    """Whose request it is."""

    @pytest.mark.parametrize(
        ("peer", "client"),
        [
            ("198.51.100.7", "198.51.100.7"),
            ("::ffff:198.51.100.7", "198.51.100.7"),
            ("2001:db8:7:1:aaaa::1", "2001:db8:7:1::/64"),
            ("2001:db8:7:1:bbbb::2", "2001:db8:7:1::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("", "unknown"),
        ],
    )
    def test_is_the_peers(self, peer: str, client: str) -> None:
        """An IPv6 client may have any address of its /64."""
        assert TrustedProxies().client_of(environ(peer)) == client

    def test_is_no_invention_of_a_peer_nobody_trusts(self) -> None:
        """Anybody can write a header."""
        for proxies in (FOR, FORWARDING, TrustedProxies()):
            claims = environ("198.51.100.7", "203.0.113.1", "for=203.0.113.1")

            assert proxies.client_of(claims) == "198.51.100.7"

    @pytest.mark.parametrize(
        ("claims", "client"),
        [
            ("203.0.113.1", "203.0.113.1"),
            ("203.0.113.1:4711", "203.0.113.1"),
            ("[2001:db8:7::1]:4711", "2001:db8:7::/64"),
            ("192.0.2.66, 203.0.113.1", "203.0.113.1"),
            ("192.0.2.66, 203.0.113.1, 10.1.2.3, 2001:db8:1::9", "203.0.113.1"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1"),
            ("203.0.113.1, nonsense", "10.0.0.1"),
            ("203.0.113.1, unknown, 10.2.2.2", "10.2.2.2"),
            ("", "10.0.0.1"),
            (", ,", "10.0.0.1"),
            ("192.0.2.1," + "10.0.0.2," * 5000 + "10.0.0.3", "10.0.0.2"),
        ],
    )
    def test_is_what_the_nearest_trusted_proxies_say(self, claims: str, client: str) -> None:
        """From the right, as far as each hop is trusted; what is to the left may be invented."""
        assert FOR.client_of(environ("10.0.0.1", claims)) == client

    @pytest.mark.parametrize(
        ("claims", "client"),
        [
            ("for=203.0.113.1", "203.0.113.1"),
            ('by=10.0.0.1; For="[2001:db8:7::1]:4711";proto=https', "2001:db8:7::/64"),
            ("for=192.0.2.66, for=203.0.113.1;proto=http, for=10.2.2.2", "203.0.113.1"),
            ("for=203.0.113.1, for=_hidden", "10.0.0.1"),
            ("for=203.0.113.1, proto=https", "10.0.0.1"),
        ],
    )
    def test_may_stand_in_the_standard_header(self, claims: str, client: str) -> None:
        """RFC 7239."""
        assert FORWARDING.client_of(environ("10.0.0.1", forwarded=claims)) == client

    def test_is_not_in_the_header_that_the_proxies_do_not_write(self) -> None:
        """They pass it on as the client wrote it."""
        assert FOR.client_of(environ("10.0.0.1", "203.0.113.1", "for=192.0.2.66")) == "203.0.113.1"
        assert FORWARDING.client_of(environ("10.0.0.1", "192.0.2.66")) == "10.0.0.1"


class TestConfiguration:
    """Which proxies are trusted."""

    def test_names_networks_and_the_header(self) -> None:
        """As in config.yaml."""
        config = {"TRUSTED_PROXIES": ["10.0.0.0/8", "2001:db8:1::/48"], "PROXY_HEADER": "Forwarded"}

        assert TrustedProxies.of(config) == FORWARDING

    @pytest.mark.parametrize(
        "wrong", [{"TRUSTED_PROXIES": "10.0.0.0/8"}, {"TRUSTED_PROXIES": ["all"]}, {"PROXY_HEADER": "Via"}]
    )
    def test_that_cannot_work_is_refused(self, wrong: dict[str, Any]) -> None:
        """With its key."""
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            TrustedProxies.of({"TRUSTED_PROXIES": [], "PROXY_HEADER": "Forwarded", **wrong})
