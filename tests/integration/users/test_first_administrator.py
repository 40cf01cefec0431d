"""The first administrator comes from the configuration, at the service's start."""

import pytest
from nameko.exceptions import ConfigurationError

from services.chassis.errors import Unauthenticated
from services.users.seed import FirstAdministrator, renew, seed
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


class TestRenewedPassword:
    """When the administrator's password was lost with the file it stood in."""

    def test_counts_instead_of_the_one_before(self, users: Bench, database_url: str) -> None:
        """And giving the same again changes nothing."""
        seed(database_url, EMAIL, ADMIN_PASSWORD)

        assert renew(database_url, EMAIL, "another long enough one")
        assert not renew(database_url, EMAIL, "another long enough one")

        assert users.principal(users.login(EMAIL, "another long enough one")).is_admin
        with pytest.raises(Unauthenticated):
            users.login(EMAIL, ADMIN_PASSWORD)

    def test_is_given_to_no_one_else(self, users: Bench, database_url: str) -> None:
        """Neither to a customer with that address nor to nobody."""
        users.register(EMAIL)

        assert not renew(database_url, EMAIL, "another long enough one")
        assert not renew(database_url, "nobody@example.com", "another long enough one")
        assert users.principal(users.login(EMAIL)).role == "customer"
