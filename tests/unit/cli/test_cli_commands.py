"""What ``./oms`` says and how it finds its commands."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.__main__ import main
from cli.commands import commands, overview
from cli.state import CHECKOUT
from cli.trouble import Trouble
from cli.up import number_of


class TestCommands:
    """A module that says HELP is a command."""

    def test_offers_the_everyday_ones_first(self) -> None:
        """``up`` leads the list and nothing promised is missing."""
        names = list(commands())

        assert names[0] == "up"
        assert {"up", "down", "status", "logs", "shell", "topology", "test", "lint"} <= set(names)

    def test_gives_each_one_line(self) -> None:
        """No help line is long or wrapped."""
        assert all(line and "\n" not in line and len(line) < 80 for line in commands().values())

    def test_has_its_functions_for_each(self) -> None:
        """Every command module keeps the convention."""
        for name in commands():
            source = (CHECKOUT / "cli" / f"{name.replace('-', '_')}.py").read_text()

            assert "def run(" in source
            assert ("def configure(" in source) != ("PASSES_ON = True" in source)

    def test_names_an_unknown_command(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A wrong name is answered with the list."""
        assert main(["launch"]) == 2

        assert "no command 'launch'" in capsys.readouterr().err

    def test_prints_the_overview_when_asked_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        """No arguments mean help."""
        assert main([]) == 0

        assert capsys.readouterr().out.strip() == overview()


class TestScale:
    """``--scale orders=2``."""

    def test_is_read(self) -> None:
        """A service and a number."""
        assert number_of("orders=2") == ("orders", 2)

    @pytest.mark.parametrize("wish", ["orders", "orders=", "orders=0", "orders=-1", "orders=x", "shop=2", "orders=99"])
    def test_is_refused_otherwise(self, wish: str) -> None:
        """The answer shows how to say it."""
        with pytest.raises(Trouble, match="--scale orders=2"):
            number_of(wish)


class TestOms:
    """The executable at the top."""

    def test_helps_before_anything_is_installed(self, tmp_path: Path) -> None:
        """In a bare checkout, at a path with a space, it prints the commands and makes nothing."""
        checkout = tmp_path / "a checkout"
        checkout.mkdir()
        shutil.copy(CHECKOUT / "oms", checkout)
        shutil.copytree(CHECKOUT / "cli", checkout / "cli", ignore=shutil.ignore_patterns("__pycache__"))

        done = subprocess.run(
            [sys.executable, "-I", str(checkout / "oms"), "--help"], check=False, capture_output=True, text=True
        )

        assert done.returncode == 0, done.stderr
        assert "up" in done.stdout
        assert not (checkout / ".venv").exists()

    def test_imports_nothing_but_the_standard_library(self) -> None:
        """Neither it nor what it runs before the installation needs a package."""
        program = "import sys; sys.path.insert(0, '.'); import cli.commands, cli.servers.debian"

        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", program], check=False, cwd=CHECKOUT, capture_output=True, text=True
        )

        assert done.returncode == 0, done.stderr
