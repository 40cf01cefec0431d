import resource
from collections.abc import Iterator

import pytest
from nameko.exceptions import ConfigurationError

from services.chassis.http_server import Limits


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may open 400 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class TestLimits:
    """What one client may cost."""

    def test_have_defaults(self) -> None:
        """A configuration that says nothing is enough."""
        limits = Limits.of({})

        assert (limits.body_bytes, limits.origins) == (65536, ())

    def test_are_what_the_configuration_says(self) -> None:
        """Each has its key."""
        limits = Limits.of({"HTTP_MAX_CONNECTIONS": 10, "HTTP_BODY_SECONDS": 2.5, "CORS_ORIGINS": ["https://a"]})

        assert (limits.connections, limits.body_seconds, limits.origins) == (10, 2.5, ("https://a",))

    @pytest.mark.parametrize("value", [0, -1, "many"])
    def test_refuse_to_start_with_nonsense(self, value: object) -> None:
        """And name the key."""
        with pytest.raises(ConfigurationError, match="HTTP_MAX_CONNECTIONS"):
            Limits.of({"HTTP_MAX_CONNECTIONS": value})

    @pytest.mark.usefixtures("few_files")
    def test_leave_files_for_the_rest(self) -> None:
        """The broker and Redis need some, however many clients there are."""
        assert Limits.of({}).connections == 400 - 128
