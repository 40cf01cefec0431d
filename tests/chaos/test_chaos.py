import subprocess
import sys

import pytest

from cli.state import CHECKOUT


class TestChaos:
    """A short one, as anybody may run it."""

    @pytest.mark.long
    def test_loses_nothing(self) -> None:
        """Half a minute of faults; then every promise was kept, and the books agree."""
        command = [sys.executable, "-m", "cli", "chaos", "--seed", "22", "--minutes", "0.4", "--rate", "3"]

        done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True, timeout=1500)

        assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-3_000:]
        assert "seed 22" in done.stdout
        assert "every promise was kept" in done.stdout

    def test_refuses_what_it_does_not_know(self) -> None:
        """A wrong argument starts nothing."""
        done = subprocess.run(
            [sys.executable, "-m", "cli", "chaos", "--speed", "9"],
            cwd=CHECKOUT,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert done.returncode == 2
        assert "oms chaos" in done.stderr
