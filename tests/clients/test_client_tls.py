"""Both clients over the real gateway's HTTPS."""

from pathlib import Path

import pytest

from oms_client import Client, Settings, Untrusted
from tests.clients.ground import PASSWORD, an_email
from tests.clients.test_curl import Person
from tests.support.cluster import Cluster


class TestHttps:
    """An authority is trusted that one is told to trust, and no other."""

    def test_serves_who_trusts_the_authority(self, cluster: Cluster) -> None:
        """As over HTTP."""
        settings = Settings(verify=str(cluster.papers.authority), use_environment=False)
        with Client(cluster.https_url, settings=settings) as ada:
            ada.register(an_email(), PASSWORD)

            assert ada.me().role == "customer"

    def test_is_not_spoken_to_by_who_does_not(self, cluster: Cluster) -> None:
        """Nothing is sent."""
        with (
            Client(cluster.https_url, settings=Settings(use_environment=False)) as ada,
            pytest.raises(Untrusted, match="certificate"),
        ):
            ada.register(an_email(), PASSWORD)

    def test_serves_curl_too(self, cluster: Cluster, tmp_path: Path) -> None:
        """With the authority as an option of its own."""
        ada = Person(cluster.https_url, tmp_path)

        assert ada.run("register", an_email()).returncode == 60
        trusting = {"OMS_CURL": f"--cacert {cluster.papers.authority}"}
        ada.json("register", an_email(), **trusting)
        assert ada.json("me", **trusting)["role"] == "customer"
