"""The virtual environment is made again exactly when it must be."""

import errno
import os
import stat
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from cli.space import DiskFull
from cli.state import CHECKOUT
from cli.trouble import Trouble


@pytest.fixture
def oms(tmp_path: Path) -> Any:
    """The executable as a module, at work in a folder of its own, its environment finished."""
    loader = SourceFileLoader("oms_executable", str(CHECKOUT / "oms"))
    spec = spec_from_loader("oms_executable", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    module.__dict__.update(
        CHECKOUT=tmp_path,
        VENV=tmp_path / ".venv",
        PYTHON=tmp_path / ".venv/bin/python",
        STAMP=tmp_path / ".venv/oms-stamp",
        LOG=tmp_path / ".venv/install.log",
        REQUIREMENTS=[tmp_path / "requirements.txt", tmp_path / "requirements-dev.txt"],
    )
    for file in module.REQUIREMENTS:
        file.write_text("a==1\n")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").touch(0o755)
    module.write_stamp()
    return module


class TestEnvironment:
    """A finished environment is left alone, any other is mended."""

    def test_is_left_alone_when_finished(self, oms: Any) -> None:
        """Nothing has changed since."""
        assert oms.environment_is_good()

    def test_is_refreshed_when_a_pin_changes(self, oms: Any) -> None:
        """The same Python serves, with other packages."""
        oms.REQUIREMENTS[0].write_text("a==2\n")

        assert not oms.environment_is_good()
        assert oms.same_python()

    def test_is_remade_when_it_was_left_half_made(self, oms: Any) -> None:
        """Without its stamp nothing in it is trusted."""
        oms.STAMP.unlink()

        assert not oms.same_python()

    def test_is_remade_for_another_python(self, oms: Any) -> None:
        """Packages built for one version do not serve another."""
        oms.STAMP.write_text("3.10.1 elsewhere\nabc\n")

        assert not oms.environment_is_good()
        assert not oms.same_python()

    def test_is_remade_when_its_python_is_gone(self, oms: Any) -> None:
        """As after an upgrade of the system's Python."""
        oms.PYTHON.unlink()

        assert not oms.environment_is_good()

    def test_of_another_user_is_left_alone(self, oms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever runs oms in somebody else's checkout is told so before anything is touched."""
        oms.STAMP.unlink()
        monkeypatch.setattr(oms.os, "geteuid", lambda: 4711)

        with pytest.raises(Trouble, match="belongs to another user"):
            oms.make_environment("up")
        assert oms.PYTHON.exists()

    def test_tells_what_to_do_when_pip_fails(self, oms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message has pip's last words and names the mirror's variable."""

        def fail(_title: str, _command: list[str], output: Path) -> int:
            output.write_text("ERROR: No matching distribution found for a==1\n")
            return 1

        monkeypatch.setattr(oms, "step", fail)

        with pytest.raises(Trouble, match=r"(?s)No matching distribution.*PIP_INDEX_URL"):
            oms.install()
        assert not oms.STAMP.exists()

    def test_tells_what_to_do_when_venv_is_missing(self, oms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Debian's package is named, and no half environment is trusted."""
        (oms.CHECKOUT / ".oms").mkdir()
        monkeypatch.setattr(oms, "step", lambda *_: 1)

        with pytest.raises(Trouble, match="apt install python3-venv"):
            oms.make_venv()
        assert not oms.same_python()

    def test_takes_no_room_when_there_is_too_little(self, oms: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """The sentence names the place, and what was installed so far goes again."""

        def fill_up(_title: str, _command: list[str], output: Path) -> int:
            output.write_text(f"ERROR: [Errno 28] {os.strerror(errno.ENOSPC)}\n")
            return 1

        oms.REQUIREMENTS[0].write_text("a==2\n")
        monkeypatch.setattr(oms, "step", fill_up)

        with pytest.raises(DiskFull, match=r"The disk is full: \S+ cannot take any more"):
            oms.make_environment("lint")
        assert not oms.VENV.exists()

    def test_locks_where_others_cannot_interfere(self, oms: Any) -> None:
        """Whatever the umask, nobody else may write to the cluster's folder."""
        kept = os.umask(0)
        try:
            with oms.one_at_a_time():
                assert stat.S_IMODE((oms.CHECKOUT / ".oms").stat().st_mode) == 0o755
        finally:
            os.umask(kept)
