"""One theatre per module: two services that show what the chassis does, as real processes on real servers."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine

from cli.databases import drop_database, make_database, session
from cli.servers.endpoints import Endpoints, with_database
from cli.servers.vhosts import Vhosts
from tests.support.certificates import Papers, issue
from tests.support.stage import ThingHappenedEvent
from tests.support.theatre import Theatre, make_tables


@pytest.fixture(scope="module")
def stage(servers: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """The place without its actors."""
    vhosts = Vhosts(servers)
    theatre = Theatre(tmp_path_factory.mktemp("theatre"), servers, vhosts.make_vhost())
    yield theatre
    theatre.close()
    vhosts.remove()


@pytest.fixture(scope="module")
def theatre(stage: Theatre) -> Theatre:
    """Teller and listener running and ready."""
    stage.open()
    return stage


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where certificates are; servers may run as another user."""
    with tempfile.TemporaryDirectory(prefix="oms-tls-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def papers(folder: Path) -> Papers:
    """What a server with TLS shows: it is ``localhost``, and nothing else."""
    return issue(folder / "ours", "localhost")


@pytest.fixture(scope="module")
def strangers(folder: Path) -> Papers:
    """Those of an authority that has nothing to do with it."""
    return issue(folder / "strangers", "localhost")


@pytest.fixture(scope="module")
def engine(postgres_url: str) -> Iterator[Engine]:
    """A database with an outbox, an inbox and what was seen, for who needs no process."""
    name = f"work_{uuid4().hex[:8]}"
    with session(postgres_url) as cursor:
        make_database(cursor, name, "postgres")
    engine = create_engine(with_database(postgres_url, name))
    make_tables(engine)
    yield engine
    engine.dispose()
    with session(postgres_url) as cursor:
        drop_database(cursor, name)


def a_thing(what: str = "x") -> ThingHappenedEvent:
    """Something that happened just now."""
    return ThingHappenedEvent(occurred_at=datetime.now(UTC), what=what)
