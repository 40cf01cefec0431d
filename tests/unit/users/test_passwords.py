import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from services.chassis.errors import Unauthenticated
from services.users.models import an_account
from services.users.passwords import DEFAULTS, PasswordDesk, make_hasher
from tests.unit.users.test_users_models import NOW

CHEAP = {"PASSWORD_MEMORY_KIB": 64, "PASSWORD_ROUNDS": 1}


@pytest.fixture
def desk() -> PasswordDesk:
    """A desk with cheap hashes."""
    return PasswordDesk(make_hasher(CHEAP), at_once=2, waiting=2)


def run_green(script: str) -> Any:
    """What the script prints as JSON, run under eventlet as a service is."""
    prelude = """
        import eventlet; eventlet.monkey_patch()
        import json, time
        from services.chassis.errors import Unavailable
        from services.users.passwords import PasswordDesk, make_hasher
    """
    program = textwrap.dedent(prelude) + textwrap.dedent(script)
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], check=True, capture_output=True, timeout=60
    )
    return json.loads(answer.stdout.splitlines()[-1])


class TestPasswordDesk:
    """Makes and checks hashes."""

    def test_is_argon2id_as_owasp_says(self) -> None:
        """19 MiB, two rounds, one lane, and a salt of its own each time."""
        hasher = make_hasher({})

        hashes = {hasher.hash("seven green kettles") for _ in range(2)}

        assert all(each.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for each in hashes)
        assert len(hashes) == 2
        assert DEFAULTS["PASSWORD_HASHERS"] == 2

    def test_proves_the_right_password(self, desk: PasswordDesk) -> None:
        """And only that."""
        user = an_account(email="ann@example.com", password_hash=desk.hash("right"), now=NOW)

        proof = desk.prove("right", user)

        assert (proof.user_id, proof.proven_hash, proof.better_hash) == (user.id, user.password_hash, None)
        for wrong in ("wrong", "", "right ", "RIGHT"):
            with pytest.raises(Unauthenticated):
                desk.prove(wrong, user)

    @pytest.mark.parametrize("stored", ["", "plain text", "$argon2id$broken", "$2b$12$abc"])
    def test_refuses_a_hash_it_cannot_read(self, desk: PasswordDesk, stored: str) -> None:
        """Whatever got into the database, it opens no door."""
        user = an_account(email="ann@example.com", password_hash=stored, now=NOW)

        with pytest.raises(Unauthenticated):
            desk.prove("right", user)

    def test_works_as_hard_for_nobody_as_for_somebody(
        self, desk: PasswordDesk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Unknown, wrong and closed: each is one verification with the same parameters."""
        seen: list[str] = []
        verify = desk.hasher.verify

        def watched(_: object, known: str, password: str) -> bool:
            seen.append(known)
            return verify(known, password)

        monkeypatch.setattr(type(desk.hasher), "verify", watched)
        user = an_account(email="ann@example.com", password_hash=desk.hash("right"), now=NOW)
        closed = an_account(email="bob@example.com", password_hash=desk.hash("right"), now=NOW)
        closed.active = False

        for password, account in (("right", None), ("wrong", user), ("right", closed)):
            with pytest.raises(Unauthenticated) as refused:
                desk.prove(password, account)
            assert refused.value.code == "invalid_credentials"

        assert len(seen) == 3
        assert {each.rsplit("$", 2)[0] for each in seen} == {desk.nobodys_hash.rsplit("$", 2)[0]}

    def test_offers_a_better_hash_when_the_parameters_changed(self, desk: PasswordDesk) -> None:
        """Made in the same go."""
        old = make_hasher(CHEAP | {"PASSWORD_ROUNDS": 2}).hash("right")

        proof = desk.prove("right", an_account(email="ann@example.com", password_hash=old, now=NOW))

        assert proof.better_hash is not None
        assert desk.hasher.verify(proof.better_hash, "right")


class TestBesideTheLoop:
    """Hashing under eventlet, as a service runs it."""

    def test_blocks_nobody(self) -> None:
        """While eight passwords are hashed one after the other the loop goes round far more than eight times."""
        rounds = run_green(
            """
            desk = PasswordDesk(make_hasher({"PASSWORD_ROUNDS": 12}), at_once=1, waiting=20)
            rounds, pool = 0, eventlet.GreenPool()
            for _ in range(8):
                pool.spawn_n(desk.hash, "seven green kettles")
            while pool.running():
                eventlet.sleep(0.005)
                rounds += 1
            print(json.dumps(rounds))
            """
        )

        assert rounds > 4 * 8

    def test_takes_the_memory_of_a_few_hashes(self) -> None:
        """The same two threads make them all: each keeps the 19 MiB of a hash for its next one."""
        threads = run_green(
            """
            desk = PasswordDesk(make_hasher({}), at_once=2, waiting=20)
            native, threads = eventlet.patcher.original("threading"), set()

            class Telling:
                def hash(self, password):
                    threads.add(native.get_native_id())

            desk.hasher = Telling()
            pool = eventlet.GreenPool()
            for _ in range(12):
                pool.spawn_n(desk.hash, "seven green kettles")
            pool.waitall()
            print(json.dumps(len(threads)))
            """
        )

        assert threads <= 2

    def test_runs_a_few_at_once_and_refuses_a_crowd(self) -> None:
        """Two hash, three wait, the rest is told to come again; afterwards there is room again."""
        most, outcomes, left = run_green(
            """
            desk = PasswordDesk(make_hasher({}), at_once=2, waiting=3)
            running, most, outcomes, hash_one = 0, 0, [], desk.hasher.hash

            class Counting:
                def hash(self, password):
                    global running, most
                    running += 1
                    most = max(most, running)
                    answer = hash_one(password)
                    running -= 1
                    return answer

            desk.hasher = Counting()

            def login():
                try:
                    desk.hash("seven green kettles")
                    outcomes.append("done")
                except Unavailable as refused:
                    outcomes.append([refused.code, refused.extra["retry_after"]])

            pool = eventlet.GreenPool()
            for _ in range(8):
                pool.spawn_n(login)
            pool.waitall()
            print(json.dumps([most, outcomes, desk.room]))
            """
        )

        assert most == 2
        assert outcomes == [["busy", 1]] * 3 + ["done"] * 5
        assert left == 5
