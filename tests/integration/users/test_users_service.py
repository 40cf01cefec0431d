from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

import eventlet
import pytest
from redis import Redis
from sqlalchemy import Engine, text
from time_machine import travel

from services.chassis.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    Unauthenticated,
)
from services.users.models import HARMLESS_REPEAT
from services.users.passwords import make_hasher
from services.users.seed import seed
from tests.integration.users.bench import ADMIN_PASSWORD, CHEAP_HASHES, PASSWORD, Bench


def code_of(refused: pytest.ExceptionInfo[ServiceError]) -> str:
    """The refusal's machine word."""
    return refused.value.code


def spend_long_ago(engine: Engine) -> None:
    """Let every spent refresh token have been spent too long ago for a double click."""
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE refresh_tokens SET spent_at = spent_at - CAST(:ago AS interval)"),
            {"ago": HARMLESS_REPEAT + timedelta(seconds=1)},
        )


def seed_as(email: str, users: Bench) -> bool:
    """What a starting instance does."""
    return seed(users.config["DB_URIS"]["users:Base"], email, ADMIN_PASSWORD, CHEAP_HASHES)


class TestRegister:
    """A new account."""

    def test_gives_tokens_for_a_customer(self, users: Bench) -> None:
        """The answer is the API's, and the token proves the new account."""
        session = users.register(firstName="Ann", lastName="Smith", phone="+4915112345678")

        principal = users.principal(session)
        assert set(session) == {"token", "tokenType", "expiresIn", "refreshToken", "userId", "message"}
        assert (session["tokenType"], session["expiresIn"]) == ("Bearer", 900)
        assert (str(principal.user_id), principal.role) == (session["userId"], "customer")

    def test_keeps_no_password_and_no_refresh_token(self, users: Bench, engine: Engine) -> None:
        """A stolen database logs nobody in."""
        session = users.register()

        with engine.connect() as connection:
            kept = repr([*connection.execute(text("SELECT * FROM users, refresh_tokens"))])
        assert "$argon2id$" in kept
        assert PASSWORD not in kept
        assert session["refreshToken"] not in kept
        assert session["token"] not in kept

    def test_refuses_a_taken_address_in_whatever_case(self, users: Bench) -> None:
        """Two accounts never differ by capitals alone."""
        users.register("Ann@Example.com")

        with pytest.raises(Conflict) as refused:
            users.register("aNN@example.COM")
        assert code_of(refused) == "email_taken"

    def test_makes_one_account_when_many_register_at_once(self, users: Bench) -> None:
        """The database decides, not a look before."""
        outcomes = users.at_once(*[lambda bench: bench.register()] * 6)

        refused = [each for each in outcomes if isinstance(each, Conflict)]
        assert [each.code for each in refused] == ["email_taken"] * 5

    def test_never_takes_a_role_from_the_request(self, users: Bench) -> None:
        """Unknown fields are errors."""
        with pytest.raises(InvalidInput) as refused:
            users.register(role="admin")
        assert refused.value.extra["errors"][0]["pointer"] == "/role"


class TestLogin:
    """An old account."""

    def test_gives_tokens_of_a_new_family(self, users: Bench) -> None:
        """Each login stands alone."""
        first = users.register()

        second = users.login("ANN@example.com")

        assert second["userId"] == first["userId"]
        assert users.principal(second).family != users.principal(first).family

    def test_answers_every_failure_alike(self, users: Bench, admin_token: str) -> None:
        """Nobody learns which addresses have an account."""
        session = users.register("closed@example.com")
        users.register()
        users.worker(admin_token).change_user(session["userId"], {"active": False})
        refusals = set()

        for email, password in [
            ("nobody@example.com", PASSWORD),
            ("no address", PASSWORD),
            ("ann@example.com", "a wrong password"),
            ("closed@example.com", PASSWORD),
        ]:
            with pytest.raises(Unauthenticated) as refused:
                users.login(email, password)
            refusals.add((refused.value.code, refused.value.detail, str(refused.value.extra)))

        assert len(refusals) == 1
        assert refusals.pop()[0] == "invalid_credentials"

    def test_renews_a_hash_of_other_parameters(self, users: Bench, engine: Engine) -> None:
        """Stronger parameters reach an account when it next logs in."""
        users.register()
        users.providers["passwords"].desk.hasher = make_hasher(CHEAP_HASHES | {"PASSWORD_ROUNDS": 2})

        users.login()

        with engine.connect() as connection:
            assert ",t=2," in str(connection.execute(text("SELECT password_hash FROM users")).scalar_one())
        users.login()


class TestRefresh:
    """The next pair of tokens."""

    def test_rotates_within_the_family(self, users: Bench) -> None:
        """The new pair is of the same login, and the new refresh token works."""
        first = users.register()

        second = users.refresh(first)
        third = users.refresh(second)

        assert len({session["refreshToken"] for session in (first, second, third)}) == 3
        assert users.principal(third).family == users.principal(first).family
        assert users.principal(third).jti != users.principal(first).jti

    def test_ends_the_family_when_a_spent_one_comes_back(self, users: Bench, engine: Engine, redis: Redis) -> None:
        """Thief and owner are both out, with their access tokens too; another login is not."""
        stolen = users.register()
        other = users.login()
        owners = users.refresh(stolen)
        spend_long_ago(engine)

        with pytest.raises(Unauthenticated) as refused:
            users.refresh(stolen)

        assert code_of(refused) == "refresh_token_invalid"
        with pytest.raises(Unauthenticated):
            users.refresh(owners)
        assert [users.is_denied(session) for session in (stolen, owners, other)] == [True, True, False]
        assert redis.exists(f"denied:{users.principal(owners).jti}")
        assert users.refresh(other)

    def test_forgives_a_double_click(self, users: Bench) -> None:
        """The loser is refused and the winner's tokens stay good."""
        first = users.register()

        answers = users.at_once(*[lambda bench: bench.refresh(first)] * 4)

        (winner,) = [answer for answer in answers if not isinstance(answer, Unauthenticated)]
        assert not users.is_denied(winner)
        assert users.refresh(winner)

    def test_refuses_an_expired_one(self, users: Bench, engine: Engine) -> None:
        """Thirty days, by the database."""
        session = users.register()
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE refresh_tokens SET issued_at = now() - interval '31 days', expires_at = now()")
            )

        with pytest.raises(Unauthenticated):
            users.refresh(session)

    @pytest.mark.parametrize("token", ["unknown", "ü"])
    def test_refuses_what_it_never_gave_out(self, users: Bench, token: str) -> None:
        """Whatever it is."""
        with pytest.raises(Unauthenticated):
            users.refresh({"refreshToken": token})

    def test_knows_the_role_of_today(self, users: Bench, admin_token: str) -> None:
        """A promotion takes away the old access token and arrives with the next."""
        session = users.register()
        users.worker(admin_token).change_user(session["userId"], {"role": "staff"})

        assert users.is_denied(session)
        assert users.principal(users.refresh(session)).role == "staff"


class TestLogout:
    """The end of a login."""

    def test_ends_this_login_and_no_other(self, users: Bench, redis: Redis) -> None:
        """The access token is denied, here and in Redis until it expires, and the refresh token revoked."""
        session, other = users.register(), users.login()

        users.worker(session["token"]).logout()

        assert users.is_denied(session)
        assert 900 < int(redis.ttl(f"denied:{users.principal(session).jti}")) <= 960
        with pytest.raises(Unauthenticated):
            users.refresh(session)
        assert not users.is_denied(other)
        assert users.refresh(other)

    def test_twice_is_no_error(self, users: Bench) -> None:
        """An impatient click changes nothing."""
        session = users.register()

        for _ in range(2):
            users.worker(session["token"]).logout()

        assert users.is_denied(session)

    @pytest.mark.parametrize("hours", [2, -2])
    def test_is_remembered_where_the_clock_is_wrong(self, users: Bench, redis: Redis, hours: int) -> None:
        """An instance two hours off renews the copy of the denied tokens by the database's clock."""
        session = users.register()
        users.worker(session["token"]).logout()

        with travel(timedelta(hours=hours)):
            users.worker().renew_denials()

        assert 900 < int(redis.ttl(f"denied:{users.principal(session).jti}")) <= 960

    def test_needs_a_token(self, users: Bench) -> None:
        """Nobody logs out a stranger."""
        with pytest.raises(Unauthenticated) as refused:
            users.worker().logout()
        assert code_of(refused) == "token_missing"

    def test_leaves_no_token_born_meanwhile(self, users: Bench) -> None:
        """Refreshing while logging out ends with nothing that works."""
        users.register()
        for _ in range(3):
            session = users.login()

            _, refreshed = users.at_once(
                lambda bench: bench.worker(session["token"]).logout(),  # noqa: B023 - run before the next round
                lambda bench: bench.refresh(session),  # noqa: B023 - likewise
            )

            if not isinstance(refreshed, Unauthenticated):
                assert users.is_denied(refreshed)
                with pytest.raises(Unauthenticated):
                    users.refresh(refreshed)


class TestAccounts:
    """What an account shows, and what an administrator changes."""

    def test_get_me_shows_the_caller(self, users: Bench) -> None:
        """The shape of the API, without a word of the password."""
        session = users.register(firstName="Ann")

        me = users.worker(session["token"]).get_me()

        assert set(me) == {"id", "email", "userName", "firstName", "lastName", "phone", "role", "createdAt"}
        assert (me["id"], me["userName"], me["firstName"], me["lastName"]) == (
            session["userId"],
            "ann@example.com",
            "Ann",
            None,
        )
        assert users.worker(session["token"]).get_me() == me

    def test_get_me_follows_a_change(self, users: Bench, admin_token: str) -> None:
        """The copy is invalidated."""
        session = users.register()
        users.worker(session["token"]).get_me()

        changed = users.worker(admin_token).change_user(session["userId"], {"role": "staff"})

        assert (changed["role"], changed["active"]) == ("staff", True)
        assert users.worker(session["token"]).get_me()["role"] == "staff"

    def test_closing_an_account_takes_every_token(self, users: Bench, admin_token: str) -> None:
        """Of every login."""
        sessions = [users.register(), users.login()]

        users.worker(admin_token).change_user(sessions[0]["userId"], {"active": False})

        assert all(users.is_denied(session) for session in sessions)
        for session in sessions:
            with pytest.raises(Unauthenticated):
                users.refresh(session)

    def test_opening_it_again_revives_no_token(self, users: Bench, admin_token: str) -> None:
        """Only a new login."""
        session = users.register()
        for active in (False, True):
            users.worker(admin_token).change_user(session["userId"], {"active": active})

        with pytest.raises(Unauthenticated):
            users.refresh(session)
        assert users.login()

    @pytest.mark.parametrize("change", [{}, {"role": "customer"}, {"active": True}])
    def test_changing_nothing_takes_nothing(self, users: Bench, admin_token: str, change: dict[str, Any]) -> None:
        """A repeat is no reason to log anybody out."""
        session = users.register()

        users.worker(admin_token).change_user(session["userId"], change)

        assert not users.is_denied(session)

    @pytest.mark.parametrize("change", [{"active": False}, {"role": "staff"}])
    def test_the_last_administrator_stays(self, users: Bench, admin_token: str, change: dict[str, Any]) -> None:
        """Nobody locks everybody out."""
        admin_id = str(users.principal({"token": admin_token}).user_id)

        with pytest.raises(Conflict) as refused:
            users.worker(admin_token).change_user(admin_id, change)
        assert code_of(refused) == "last_admin"

    def test_two_administrators_cannot_remove_each_other_at_once(self, users: Bench, admin_token: str) -> None:
        """One of them stays."""
        second = users.register()
        users.worker(admin_token).change_user(second["userId"], {"role": "admin"})
        second = users.login()
        first_id = str(users.principal({"token": admin_token}).user_id)

        outcomes = users.at_once(
            lambda bench: bench.worker(admin_token).change_user(second["userId"], {"active": False}),
            lambda bench: bench.worker(second["token"]).change_user(first_id, {"active": False}),
        )

        assert len([each for each in outcomes if isinstance(each, Conflict) and each.code == "last_admin"]) == 1

    def test_only_an_administrator_changes_accounts(self, users: Bench) -> None:
        """Not even one's own."""
        session = users.register()

        with pytest.raises(Forbidden):
            users.worker(session["token"]).change_user(session["userId"], {"role": "admin"})
        with pytest.raises(Unauthenticated):
            users.worker().change_user(session["userId"], {"role": "admin"})

    @pytest.mark.parametrize("user_id", ["8a2b1a52-7f6a-4a8e-9d4c-0d3a6f1b2c3d", "7", "", None, ["x"]])
    def test_an_unknown_account_is_not_found(self, users: Bench, admin_token: str, user_id: Any) -> None:
        """An id that is none is as unknown as any."""
        with pytest.raises(NotFound):
            users.worker(admin_token).change_user(user_id, {"active": False})
        with pytest.raises(NotFound):
            users.worker().get_contact(user_id)

    def test_get_contact_says_where_mail_goes(self, users: Bench) -> None:
        """And nothing else."""
        session = users.register(firstName="Ann", phone="+4915112345678")

        assert users.worker().get_contact(session["userId"]) == {
            "email": "ann@example.com",
            "phone": "+4915112345678",
            "firstName": "Ann",
        }


class TestDenials:
    """The copy in Redis."""

    def test_is_complete_once_renewed(self, users: Bench, redis: Redis) -> None:
        """Every denied token and then the marker, which outlives a few renewals."""
        session = users.register()
        users.worker(session["token"]).logout()
        redis.flushall()

        users.worker().renew_denials()

        assert redis.exists(f"denied:{users.principal(session).jti}")
        assert 30 < int(redis.ttl("denied:complete")) <= 60
        assert len(redis.keys()) == 2

    def test_makes_no_promise_when_redis_forgot_meanwhile(
        self, users: Bench, redis: Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Flushed between the copy and the marker: no marker, until the next renewal."""
        from services.users import denials  # noqa: PLC0415 - the module is what is bent

        write = denials._write

        def write_and_forget(*arguments: Any) -> None:
            write(*arguments)
            redis.flushall()

        monkeypatch.setattr(denials, "_write", write_and_forget)

        users.worker().renew_denials()

        assert redis.keys() == []

    def test_counts_no_more_when_redis_is_full(self, users: Bench, redis: Redis) -> None:
        """It still forgets, so it forgets that it was complete; and is complete again once there is room."""
        session = users.register()
        users.worker().renew_denials()
        roomy = redis.config_get("maxmemory*")
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
        try:
            users.worker(session["token"]).logout()
            assert redis.keys() == []
        finally:
            for name in ("maxmemory", "maxmemory-policy"):
                redis.config_set(name, roomy[name] or "")

        users.worker().renew_denials()

        assert redis.exists("denied:complete", f"denied:{users.principal(session).jti}") == 2

    def test_counts_no_more_when_redis_comes_back(self, users: Bench, redis: Redis) -> None:
        """What it missed while it was silent brings its marker down as soon as it answers."""
        session = users.register()
        users.worker().renew_denials()
        link = users.worker().cache.patient
        link.is_up, link.rests_until = False, link.clock() + 1
        users.worker(session["token"]).logout()
        assert redis.exists("denied:complete")

        until = monotonic() + 5
        while redis.exists("denied:complete") and monotonic() < until:
            eventlet.sleep(0.1)

        assert not redis.exists("denied:complete")

    def test_each_marker_is_another(self, users: Bench, redis: Redis) -> None:
        """So that whoever lost sight of Redis can tell a newer one."""
        users.worker().renew_denials()
        first = redis.get("denied:complete")
        users.worker().renew_denials()

        assert redis.get("denied:complete") != first

    def test_without_redis_logging_out_works(self, database_url: str) -> None:
        """The database knows, and that is what counts."""
        users = Bench(database_url, "redis://127.0.0.1:1/0")
        session = users.register()

        users.worker(session["token"]).logout()

        assert users.is_denied(session)
        assert users.worker(session["token"]).get_me()
        users.worker().renew_denials()
        users.stop()


class TestPruneTokens:
    """The hourly broom."""

    def test_takes_what_expired_and_nothing_else(self, users: Bench, engine: Engine) -> None:
        """Denials and refresh tokens go a minute after they could still matter."""
        session, other = users.register(), users.login()
        users.worker(session["token"]).logout()
        users.worker(other["token"]).logout()
        with engine.begin() as connection:
            family = users.principal(session).family
            old = "now() - interval '2 minutes'"
            connection.execute(
                text(
                    f"UPDATE refresh_tokens SET issued_at = {old} - interval '1 day', expires_at = {old},"  # noqa: S608 - our own constant
                    f" access_expires_at = {old} WHERE family = :family"
                ),
                {"family": family},
            )
            connection.execute(
                text(f"UPDATE denied_tokens SET expires_at = {old} WHERE jti = :jti"),  # noqa: S608 - likewise
                {"jti": users.principal(session).jti},
            )

        users.worker().prune_tokens()

        with engine.connect() as connection:
            families = connection.execute(text("SELECT family FROM refresh_tokens")).scalars().all()
            denied = connection.execute(text("SELECT jti FROM denied_tokens")).scalars().all()
        assert families == [users.principal(other).family]
        assert denied == [users.principal(other).jti]

    def test_goes_on_until_nothing_is_left(self, users: Bench, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """More logins in an hour than one statement takes do not fill the tables for ever."""
        monkeypatch.setattr("services.users.repository.PRUNED_AT_ONCE", 1)
        users.register()
        users.login()
        users.login()
        with engine.begin() as connection:
            old = "now() - interval '2 minutes'"
            connection.execute(
                text(
                    f"UPDATE refresh_tokens SET issued_at = {old} - interval '1 day', expires_at = {old},"  # noqa: S608 - our own constant
                    f" access_expires_at = {old}"
                )
            )

        users.worker().prune_tokens()

        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM refresh_tokens")).scalar() == 0


class TestSeed:
    """The first administrator."""

    def test_is_made_once_by_many(self, users: Bench) -> None:
        """Four instances that start at once make one, who can log in."""
        made = users.at_once(
            *[partial(seed_as, f"admin{number}@example.com") for number in range(4)],
        )

        assert sorted(made) == [False, False, False, True]
        assert users.principal(users.login(f"admin{made.index(True)}@example.com", ADMIN_PASSWORD)).is_admin

    def test_leaves_an_account_alone(self, users: Bench, database_url: str) -> None:
        """Somebody's account does not become the administrator's."""
        users.register("admin@example.com")

        assert not seed(database_url, "admin@example.com", ADMIN_PASSWORD, CHEAP_HASHES)
        assert users.principal(users.login("admin@example.com")).role == "customer"

    def test_refuses_a_weak_password(self, database_url: str) -> None:
        """The first account is held to what all others are."""
        with pytest.raises(InvalidInput):
            seed(database_url, "admin@example.com", "password", CHEAP_HASHES)


def test_the_models_are_what_the_migrations_make(engine: Engine) -> None:
    """Alembic finds nothing to add."""
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - only this test
    from alembic.migration import MigrationContext  # noqa: PLC0415 - likewise

    from services.users.models import Base  # noqa: PLC0415 - likewise

    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)

    assert [each for each in differences if "alembic_version" not in repr(each)] == []
