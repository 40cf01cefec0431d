"""The first administrator comes from the configuration, at the service's start."""

import pytest
from nameko.exceptions import ConfigurationError

from services.users.seed import FirstAdministrator
from tests.integration.users.bench import ADMIN_PASSWORD, Bench
from tests.support.fakes import Container

EMAIL = "boss@example.com"


def a_provider(users: Bench, email: str, password: str) -> FirstAdministrator:
    """The provider as the container sets it up."""
    provider = FirstAdministrator()
    provider.container = Container("users", {**users.config, "ADMIN_EMAIL": email, "ADMIN_PASSWORD": password})
    provider.setup()
    return provider


class TestFirstAdministrator:
    """Whoever is configured, once."""

    def test_can_log_in_once_the_service_runs(self, users: Bench) -> None:
        """And a second start changes nothing."""
        provider = a_provider(users, EMAIL, ADMIN_PASSWORD)

        provider.make()
        provider.make()

        assert users.principal(users.login(EMAIL, ADMIN_PASSWORD)).is_admin

    @pytest.mark.parametrize(("email", "password"), [("", ""), (EMAIL, ""), ("", ADMIN_PASSWORD)])
    def test_is_not_made_without_both(self, users: Bench, email: str, password: str) -> None:
        """Half a configuration is none."""
        assert not a_provider(users, email, password).wanted

    @pytest.mark.parametrize(
        ("email", "password", "key"),
        [("nobody", ADMIN_PASSWORD, "ADMIN_EMAIL"), (EMAIL, "password", "ADMIN_PASSWORD")],
    )
    def test_that_nobody_could_register_refuses_to_start(
        self, users: Bench, email: str, password: str, key: str
    ) -> None:
        """With the key's name, and never the value."""
        with pytest.raises(ConfigurationError, match=key) as refused:
            a_provider(users, email, password)

        assert "password'" not in str(refused.value)
