"""The pages need nothing that this host does not serve, and what was taken from others is as they published it."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

import pytest

import events
from cli.contract import FOLDER
from cli.state import CHECKOUT
from gateway import CONTRACT
from services.chassis.documents import PAGE_POLICY

PAGES: Final = ("docs.html", "events.html")
VENDORED: Final = (FOLDER / "swagger-ui", CHECKOUT / "tests" / "unit" / "contract" / "schemas")
HASH: Final = re.compile(r"^\| `(\S+)` \| `([0-9a-f]{64})` \|$", re.MULTILINE)
LOADS: Final = {"src", "href", "action", "data", "poster", "srcset"}


class Reader(HTMLParser):
    """What a page loads and links to, and whether anything stands in it that its policy forbids."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.forbidden: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note the tag's targets."""
        given = dict(attributes)
        self.anchors.add(given.get("id") or "")
        self.targets += [value or "" for name, value in attributes if name in LOADS]
        self.forbidden += [name for name in given if name == "style" or name.startswith("on")]
        if tag in {"style", "base", "iframe", "object"} or (tag == "script" and "src" not in given):
            self.forbidden.append(tag)


@pytest.mark.parametrize("page", PAGES)
class TestPage:
    """What each page asks for."""

    def test_asks_only_this_host(self, page: str) -> None:
        """Each target is served by the gateway, or stands on the page."""
        reader = Reader((FOLDER / page).read_text())

        anchors = {f"#{anchor}" for anchor in reader.anchors}
        assert [target for target in reader.targets if target not in {*CONTRACT.files, *anchors}] == []

    def test_has_nothing_in_it_that_the_policy_forbids(self, page: str) -> None:
        """No script, style or handler in the page itself."""
        assert Reader((FOLDER / page).read_text()).forbidden == []


def test_the_policy_names_no_other_host() -> None:
    """Nothing but this host and what stands in the style sheet, and no way around."""
    sources = {source for directive in PAGE_POLICY.split("; ") for source in directive.split()[1:]}

    assert sources == {"'none'", "'self'", "data:"}
    assert "default-src 'none'" in PAGE_POLICY


def test_the_script_asks_no_other_host() -> None:
    """Swagger UI would send the document to a validator of its makers."""
    script = (FOLDER / "docs.js").read_text()

    assert "validatorUrl: null" in script
    assert 'url: "/openapi.json"' in script
    assert "://" not in script


def test_every_file_that_is_served_is_there() -> None:
    """Under the names that the gateway knows."""
    assert [name for name in CONTRACT.files.values() if not (FOLDER / name).is_file()] == []


def test_every_event_has_its_section() -> None:
    """With its name as anchor."""
    anchors = Reader((FOLDER / "events.html").read_text()).anchors

    assert {kind.__name__ for kind in events.ALL} <= anchors


@pytest.mark.parametrize("folder", VENDORED, ids=lambda folder: folder.name)
class TestVendored:
    """What others made."""

    def test_is_as_it_was_published(self, folder: Path) -> None:
        """By the hash that was written down."""
        hashes = dict(HASH.findall((folder / "README.md").read_text()))

        assert hashes
        for name, expected in hashes.items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected

    def test_comes_with_its_licence(self, folder: Path) -> None:
        """And with nothing that was not written down."""
        hashes = dict(HASH.findall((folder / "README.md").read_text()))

        assert "Apache License" in (folder / "LICENSE").read_text()
        assert {each.name for each in folder.iterdir()} <= {*hashes, "README.md", "LICENSE"}
