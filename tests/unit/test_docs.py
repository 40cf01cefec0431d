"""The pages agree with the code and with each other."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cli.state import CHECKOUT
from services.chassis.config import KINDS
from tests.support.pages import DOCS, PAGES, renewed

WIRING: Final = {"SERVICE_CONTAINER_CLS", "DECLARE_EVENT_EXCHANGES", "serializer", "ACCEPT", "SERIALIZERS"}
"""Keys of config.yaml that are the same everywhere."""

VARIABLE: Final = re.compile(r"(?:!raw_env_var )?\$\{(\w+):(.*)\}")
ROW: Final = re.compile(r"^\| `([\w.:]+)` \| `(\w+)` \| (.*?) \| .* \|$", re.MULTILINE)
LINK: Final = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
MARKDOWN: Final = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md")])


class Plain(yaml.SafeLoader):
    """Reads config.yaml without filling in variables."""


def as_written(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> object:
    """The value with its variable not filled in."""
    return loader.construct_scalar(node)


Plain.add_constructor("!raw_env_var", as_written)
Plain.add_constructor("!env_var", as_written)  # whoever runs Nameko's own reader adds it for every loader


def settings(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Each setting of config.yaml that a variable sets: key, variable, default."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from settings(value, f"{prefix}{key}.")
        elif found := VARIABLE.fullmatch(str(value)):
            yield f"{prefix}{key}", found[1], found[2]


def config() -> dict[str, Any]:
    """config.yaml as it is written."""
    with (CHECKOUT / "config.yaml").open() as file:
        values: dict[str, Any] = yaml.load(file, Plain)  # noqa: S506 - a safe loader with one more tag
    return values


class TestConfigurationPage:
    """Every setting is on the page, as it is in the file."""

    def test_has_each_setting_with_its_variable_and_default(self) -> None:
        """Neither more nor fewer."""
        rows = ROW.findall((DOCS / "configuration.md").read_text())
        listed = {(key, variable, "" if shown == "empty" else shown.strip("`")) for key, variable, shown in rows}

        assert listed == set(settings(config()))

    def test_leaves_out_only_wiring(self) -> None:
        """A key without a variable is the same everywhere."""
        fixed = {key for key, value in config().items() if not any(settings({key: value}))}

        assert fixed == WIRING

    def test_names_what_the_command_line_reads(self) -> None:
        """Every OMS_ variable of cli/."""
        page = (DOCS / "configuration.md").read_text()
        code = "".join(file.read_text() for file in [CHECKOUT / "oms", *(CHECKOUT / "cli").rglob("*.py")])
        read = set(re.findall(r'(?:environ\.get\(|environ\[|getenv\()"(OMS_\w+)"', code))

        assert {name for name in read if name not in page} == set()

    def test_covers_what_every_service_checks(self) -> None:
        """No check of a key that the file does not have."""
        assert set(KINDS) <= set(config())


class TestOperationsPage:
    """What it says to watch is what the code tells."""

    PAGE: Final = (DOCS / "operations.md").read_text()
    CODE: Final = "".join(file.read_text() for file in (CHECKOUT / "services").rglob("*.py"))

    def test_names_metrics_that_there_are(self) -> None:
        """As they are scraped."""
        named = set(re.findall(r"`(oms_\w+)`", self.PAGE))

        assert {name for name in named if f'"{name}"' not in self.CODE} == set()

    def test_names_log_lines_that_there_are(self) -> None:
        """In the first column of the alarms."""
        alarms = self.PAGE.partition("## At each alarm")[2].partition("## ")[0]
        rows = [row.split("|")[1] for row in alarms.splitlines() if row.startswith("| `")]
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}

        assert len(named) > 15
        assert {name for name in named if f'"{name}"' not in self.CODE} == set()


class TestPages:
    """What is printed from the code is as the code is, and links lead somewhere."""

    @pytest.mark.parametrize("name", PAGES)
    def test_has_the_tables_of_the_code(self, name: str) -> None:
        """Else run ``python -m tests.support.pages``."""
        text = (DOCS / name).read_text()

        assert renewed(text) == text

    @pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(CHECKOUT)))
    def test_links_to_what_is_there(self, page: Path) -> None:
        """Files of this checkout; the world outside is not asked."""
        targets = [target for target, _ in LINK.findall(page.read_text()) if "://" not in target]

        assert [target for target in targets if not (page.parent / target).exists()] == []

    def test_every_room_of_the_chassis_is_told_of(self) -> None:
        """In the architecture's list."""
        page = (DOCS / "architecture.md").read_text()
        rooms = {file.stem for file in (CHECKOUT / "services" / "chassis").glob("*.py")} - {"__init__"}

        assert {room for room in rooms if f"`{room}`" not in page} == set()

    def test_every_decision_is_in_the_index(self) -> None:
        """And each has its three parts."""
        folder = DOCS / "decisions"
        pages = {page.name: page.read_text() for page in folder.glob("*.md") if page.name != "README.md"}

        assert set(LINK.findall((folder / "README.md").read_text())) >= {(name, "") for name in pages}
        for text in pages.values():
            assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
