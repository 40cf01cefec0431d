import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import oms_client
from cli.state import CHECKOUT

PROJECT: Final = CHECKOUT / "clients" / "python"


class TestPackage:
    """It stands by itself."""

    def test_can_be_installed_and_used_alone(self, tmp_path: Path) -> None:
        """From a copy, by pip, with nothing of this project in reach; its types and licence come along."""
        shutil.copytree(PROJECT, tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        target = tmp_path / "installed"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        pip += ["--no-build-isolation", "--no-index", "--target", str(target), str(tmp_path / "source")]

        subprocess.run(pip, check=True, cwd=tmp_path, capture_output=True)
        program = "import oms_client; print(oms_client.__file__); print(oms_client.Client('http://gateway'))"
        done = subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            cwd=tmp_path,
            env={"PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
        )

        assert done.stdout.splitlines() == [f"{target}/oms_client/__init__.py", "Client('http://gateway')"]
        assert (target / "oms_client" / "py.typed").exists()
        (licence,) = target.glob("oms_client-*.dist-info/licenses/LICENSE")
        assert licence.read_text() == (CHECKOUT / "LICENSE").read_text()

    def test_imports_nothing_but_itself_and_requests(self) -> None:
        """And what requests stands on."""
        own = {"oms_client", "requests", "urllib3"}
        imported = {
            (node.module or "" if isinstance(node, ast.ImportFrom) else alias.name).partition(".")[0]
            for file in (PROJECT / "src").rglob("*.py")
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names
        }

        assert imported <= own | sys.stdlib_module_names

    def test_offers_what_it_names(self) -> None:
        """In order."""
        assert sorted(oms_client.__all__) == oms_client.__all__
        assert all(hasattr(oms_client, name) for name in oms_client.__all__)
