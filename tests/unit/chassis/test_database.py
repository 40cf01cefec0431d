import psycopg2
import pytest
from sqlalchemy.exc import OperationalError

from services.chassis.database import distrust

REFUSED = 'connection to server at "db" (::1), port 5432 failed: Connection refused\n\tIs the server running?\n'
AT = 'connection to server at "db" (10.0.0.7), port 5432 failed: '


class TestDistrust:
    """What is said of a database that is not trusted."""

    @pytest.mark.parametrize(
        "reason",
        [
            "SSL error: certificate verify failed",
            'server certificate for "db" does not match host name "10.0.0.7"',
            'root certificate file "/nowhere" does not exist',
            "server does not support SSL, but SSL was required",
        ],
    )
    @pytest.mark.parametrize("before", ["", REFUSED], ids=["one address", "two addresses"])
    def test_is_what_the_driver_says_without_the_address(self, before: str, reason: str) -> None:
        """Whichever of its addresses it was."""
        error = OperationalError("SELECT 1", {}, psycopg2.OperationalError(f"{before}{AT}{reason}\n"))

        assert distrust(error) == reason

    def test_is_nothing_when_it_is_only_away(self) -> None:
        """Or whatever else."""
        assert distrust(OperationalError("SELECT 1", {}, psycopg2.OperationalError(REFUSED))) == ""
        assert distrust(TimeoutError()) == ""
