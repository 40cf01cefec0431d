import os
import subprocess
import sys

import pytest

from cli.state import CHECKOUT
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster
from tests.support.until import eventually


def begin_demo(cluster: Cluster, *, securely: bool = False) -> "subprocess.Popen[str]":
    """``./oms demo`` against this cluster."""
    where = ["--url", cluster.https_url, "--ca", str(cluster.papers.authority)] if securely else ["--url", cluster.url]
    return subprocess.Popen(
        [sys.executable, "-m", "cli", "demo", *where],
        cwd=CHECKOUT,
        env={**os.environ, "ADMIN_EMAIL": ADMIN_EMAIL, "ADMIN_PASSWORD": ADMIN_PASSWORD},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


class TestDemo:
    """The demo, played for somebody."""

    @pytest.mark.parametrize("securely", [False, True], ids=["HTTP", "HTTPS"])
    def test_ends_as_it_should(self, cluster: Cluster, securely: bool) -> None:  # noqa: FBT001
        """Exit code 0, every story in plain text, mails included."""
        demo = begin_demo(cluster, securely=securely)

        output, _ = demo.communicate(timeout=120)

        assert demo.returncode == 0, output
        assert "All 6 stories ended as they should" in output
        assert output.count("as it should be") == 6
        assert "sent confirmation by email and sms" in output
        assert "\033" not in output

    def test_ends_the_same_when_a_process_is_killed_meanwhile(self, cluster: Cluster) -> None:
        """SIGKILL to two of them after the first orders, started again as a supervisor does."""
        query = "SELECT count(*) AS orders FROM orders"
        (before,) = cluster.rows("orders", query)
        demo = begin_demo(cluster)

        eventually(lambda: cluster.rows("orders", query)[0]["orders"] >= before["orders"] + 3, "three orders", 60)
        cluster.kill("gateway", "orders")
        cluster.start("gateway", "orders")
        output, _ = demo.communicate(timeout=200)

        assert demo.returncode == 0, output
