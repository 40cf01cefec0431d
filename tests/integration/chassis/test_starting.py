"""A service that cannot work does not start, and says why in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.state import CHECKOUT
from tests.support.theatre import QUIET, config_of_the_stage

SECRET = "a-secret-that-is-long-enough-0123456789"
GOOD = {
    "AMQP_URI": "amqp://teller:pw@127.0.0.1:9/",
    "DATABASE_URL": "postgresql+psycopg2://127.0.0.1:9/x",
    "HTTP_PORT": "0",
    "JWT_SECRET": SECRET,
}


class TestStarting:
    """``nameko run`` with settings that cannot work."""

    @pytest.mark.parametrize(
        ("key", "changes"),
        [
            ("JWT_SECRET", {"JWT_SECRET": "short"}),
            ("RETRY_DELAYS_MS", {"RETRY_DELAYS_MS": "[5, 1]"}),
            ("DB_URIS", {"DATABASE_URL": "mysql://host/x"}),
            ("JWT_SECRET", {"OMS_ENVIRONMENT": "production", "JWT_SECRET": None}),
            ("AMQP_URI", {"OMS_ENVIRONMENT": "production", "AMQP_URI": None}),
        ],
        ids=[
            "short secret",
            "delays that shrink",
            "another database",
            "production without secret",
            "production as guest",
        ],
    )
    def test_names_the_key_and_ends(self, tmp_path: Path, key: str, changes: dict[str, str | None]) -> None:
        """With one line, no traceback, and a code that a supervisor understands."""
        config = tmp_path / "config.yaml"
        config.write_text(config_of_the_stage())
        wanted = {name: value for name, value in {**os.environ, **GOOD, **changes}.items() if value is not None}
        nameko = [sys.executable, "-W", QUIET, str(Path(sys.executable).with_name("nameko"))]

        done = subprocess.run(
            [*nameko, "run", "--config", str(config), "tests.support.stage:TellerService"],
            cwd=CHECKOUT,
            env={**wanted, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        assert done.returncode > 0
        assert len(said) == 1, said
        assert key in said[0]
        assert SECRET not in said[0]
