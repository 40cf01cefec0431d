"""What the gateway shows of itself: documents and pages, from its own files."""

from collections.abc import Iterator

import pytest
import requests

from gateway import CONTRACT
from services.chassis.documents import KINDS, PAGE_POLICY
from tests.integration.gateway.door import Door, check_problem

EACH = pytest.mark.parametrize("path", CONTRACT.files)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The gateway; no broker, no Redis, no services."""
    command = ["-m", "nameko", "run", "tests.integration.gateway.fake_peers:FakedGateway", "--config"]
    with Door(tmp_path_factory.mktemp("documents"), "gateway", command) as door:
        yield door


@EACH
class TestDocument:
    """Each file."""

    def test_is_shown_as_it_is(self, gateway: Door, path: str) -> None:
        """To anyone, with its own type; a page under the policy of pages, all else under that of answers."""
        file = CONTRACT.folder / CONTRACT.files[path]

        answer = requests.get(gateway.url + path, timeout=5)

        assert (answer.status_code, answer.content) == (200, file.read_bytes())
        assert answer.headers["Content-Type"] == KINDS[file.suffix]
        policy = answer.headers["Content-Security-Policy"]
        assert policy == (PAGE_POLICY if file.suffix == ".html" else "default-src 'none'; frame-ancestors 'none'")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_is_sent_once(self, gateway: Door, path: str) -> None:
        """Who has it is told that it is still so."""
        first = requests.get(gateway.url + path, timeout=5)

        again = requests.get(gateway.url + path, headers={"If-None-Match": first.headers["ETag"]}, timeout=5)

        assert (again.status_code, again.content) == (304, b"")
        assert (again.headers["ETag"], again.headers["Cache-Control"]) == (first.headers["ETag"], "public, no-cache")

    def test_is_only_read(self, gateway: Door, path: str) -> None:
        """405 for whatever is not asking for it."""
        answer = requests.post(gateway.url + path, timeout=5)

        check_problem(answer.json(), 405, answer.headers)
        assert answer.headers["Allow"] == "GET, HEAD"


def test_nothing_else_of_the_folder_is_shown(gateway: Door) -> None:
    """Only what was named; no path leads out of it."""
    for path in ("/", "/LICENSE", "/swagger-ui/LICENSE", "/%2e%2e/config.yaml", "/..%2fconfig.yaml"):
        answer = requests.get(f"{gateway.url}/docs{path}", timeout=5)

        check_problem(answer.json(), 404, answer.headers)
