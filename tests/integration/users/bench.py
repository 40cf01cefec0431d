"""One process of the users service: its real providers, PostgreSQL and Redis, with no broker between."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import Any

from services.chassis.auth import Principal, verify_token
from services.chassis.errors import ServiceError
from services.chassis.probes import Probes
from services.users.service import UsersService
from tests.support.fakes import Instance

PASSWORD = "seven green kettles"
ADMIN_PASSWORD = "an administrator's password"
CHEAP_HASHES = {"PASSWORD_MEMORY_KIB": 64, "PASSWORD_ROUNDS": 1}


class Bench(Instance[UsersService]):
    """One process of the users service."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.config: dict[str, Any] = {
            "DB_URIS": {"users:Base": database_url},
            "DB_POOL_SIZE": 10,
            "REDIS_URL": redis_url,
            "JWT_SECRET": "a-secret-of-more-than-thirty-two-bytes",
            "JWT_ISSUER": "oms",
            "JWT_AUDIENCE": "oms-api",
            "ACCESS_TOKEN_SECONDS": 900,
            "REFRESH_TOKEN_SECONDS": 2_592_000,
        } | CHEAP_HASHES
        super().__init__(UsersService, self.config, Probes)

    def register(self, email: str = "ann@example.com", **more: Any) -> dict[str, Any]:
        """A new account's tokens."""
        session: dict[str, Any] = self.worker().register({"email": email, "password": PASSWORD, **more})
        return session

    def login(self, email: str = "ann@example.com", password: str = PASSWORD) -> dict[str, Any]:
        """A further login's tokens."""
        session: dict[str, Any] = self.worker().login({"email": email, "password": password})
        return session

    def refresh(self, session: dict[str, Any]) -> dict[str, Any]:
        """The next tokens."""
        following: dict[str, Any] = self.worker().refresh({"refreshToken": session["refreshToken"]})
        return following

    def principal(self, session: dict[str, Any]) -> Principal:
        """Whom the access token proves."""
        return verify_token(session["token"], self.config)

    def is_denied(self, session: dict[str, Any]) -> bool:
        """Whether the access token was taken back."""
        denied: bool = self.worker().check_token(str(self.principal(session).jti))["denied"]
        return denied

    @contextmanager
    def another(self) -> Iterator["Bench"]:
        """A second process of the service on the same servers; one thread of a test has one of its own."""
        bench = Bench(self.config["DB_URIS"]["users:Base"], self.config["REDIS_URL"])
        # eventlet's pool of native threads serves one event loop, and each thread of a test has its own.
        bench.providers["passwords"].desk._beside_the_loop = lambda work: work()
        try:
            yield bench
        finally:
            bench.stop()

    def at_once(self, *actions: Callable[["Bench"], object]) -> list[Any]:
        """What each action came to, its result or its refusal, each run by a process of its own."""

        def run(action: Callable[["Bench"], object]) -> object:
            with self.another() as bench:
                ready.wait()
                try:
                    return action(bench)
                except ServiceError as refused:
                    return refused

        ready = Barrier(len(actions))
        with ThreadPoolExecutor(len(actions)) as pool:
            return [*pool.map(run, actions)]

    def stop(self) -> None:
        """Let go of the servers."""
        for name in ("begin", "cache"):
            self.providers[name].stop()
