"""PostgreSQL over TLS, by its URL alone: the right authority works, a wrong one is named."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cli.databases import session
from cli.servers.endpoints import Endpoints
from cli.trouble import Trouble
from services.chassis.migrations import upgrade
from tests.support.certificates import Papers, over_tls
from tests.support.theatre import Theatre
from tests.support.tls_front import TlsFront
from tests.support.until import eventually


@pytest.fixture(scope="module")
def front(servers: Endpoints, papers: Papers) -> Iterator[TlsFront]:
    """PostgreSQL's port, with TLS."""
    with TlsFront(urlsplit(servers.postgres_url).port or 5432, papers, asked=True) as front:
        yield front


class TestPostgres:
    """A database over TLS: ``sslmode`` and ``sslrootcert`` in its URL."""

    @staticmethod
    def url(url: str, front: TlsFront, papers: Papers, host: str = "localhost") -> str:
        """The same database over TLS, trusting that authority only."""
        query = f"sslmode=verify-full&sslrootcert={papers.authority}"
        return over_tls(url, "postgresql+psycopg2", front.port, query, host)

    def test_serves_a_service(self, theatre: Theatre, front: TlsFront, papers: Papers) -> None:
        """The events of which it handles on that connection."""
        theatre.listener.child.stop()
        url = self.url(theatre.database_urls["listener"], front, papers)
        secure = theatre.add("listener", DATABASE_URL=url)
        eventually(lambda: secure.is_ready)

        (event,) = theatre.tell("x")

        eventually(lambda: theatre.seen(event) == 1)
        assert front.carried > 0
        secure.child.stop()
        theatre.listener.restart()

    @pytest.mark.parametrize(
        ("who", "host", "reason"),
        [
            ("strangers", "localhost", "SSL error: certificate verify failed"),
            ("papers", "127.0.0.1", 'server certificate for \\"localhost\\" does not match host name'),
            ("nobody", "localhost", "root certificate file"),
        ],
    )
    def test_is_refused_by_name_when_it_is_not_trusted(
        self, theatre: Theatre, front: TlsFront, request: pytest.FixtureRequest, who: str, host: str, reason: str
    ) -> None:
        """At ``/readyz``; the service waits for a better one."""
        papers = Papers(*[Path("/nowhere")] * 3) if who == "nobody" else request.getfixturevalue(who)
        url = self.url(theatre.database_urls["listener"], front, papers, host)

        actor = theatre.add("listener", DATABASE_URL=url)

        eventually(lambda: reason in actor.readiness()[1], what=f"readiness {actor.readiness()}")
        assert actor.readiness()[0] == 503
        actor.kill()

    def test_is_migrated_and_made(
        self, fresh_database: Callable[[str], str], postgres_url: str, front: TlsFront, papers: Papers
    ) -> None:
        """By the commands, too."""
        before = front.carried

        upgrade("users", self.url(fresh_database("users"), front, papers))
        with session(self.url(postgres_url, front, papers)) as cursor:
            cursor.execute("SELECT 1")

        assert front.carried >= before + 2

    def test_is_refused_by_the_commands(self, postgres_url: str, front: TlsFront, strangers: Papers) -> None:
        """With the reason."""
        with (
            pytest.raises(Trouble, match="certificate verify failed"),
            session(self.url(postgres_url, front, strangers)),
        ):
            pass
