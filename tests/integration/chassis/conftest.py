"""One theatre per module: two services that show what the chassis does, as real processes on real servers."""

from collections.abc import Iterator

import pytest

from cli.servers.endpoints import Endpoints
from cli.servers.vhosts import Vhosts
from tests.support.theatre import Theatre


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
