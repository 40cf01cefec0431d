"""A full disk is told in one sentence, whoever stumbles over it."""

import errno
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli import logs, space
from cli.__main__ import main
from cli.cluster import Cluster
from cli.progress import Progress
from cli.servers import debian
from cli.servers.place import remove
from cli.servers.programs import run
from cli.space import DiskFull, require_room, room, tells_of_full_disk, told_of_full_disk
from cli.state import State
from cli.trouble import Trouble

FULL = Path("/dev/full")
"""A file on which there is never room."""


def raise_here(error: Exception) -> None:
    """Raise it."""
    raise error


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more can be written anywhere."""
    monkeypatch.setattr(space, "room", lambda _folder: 0)
    monkeypatch.setattr(debian, "room", lambda _folder: 0)
    monkeypatch.setattr("cli.cluster.room", lambda _folder: 0)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of which nothing runs."""
    yield Cluster(State(tmp_path), Progress())
    remove(tmp_path)


class TestTelling:
    """What the error says."""

    def test_names_the_folder_of_the_file(self, tmp_path: Path) -> None:
        """An error of the system says which file it was."""
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "file"))

        with pytest.raises(DiskFull, match=f"The disk is full: {tmp_path} cannot"), told_of_full_disk(Path("/x")):
            raise_here(error)

    def test_names_the_folder_it_was_about(self, tmp_path: Path) -> None:
        """When the error itself does not say, as when a file was open already."""
        with pytest.raises(DiskFull, match=str(tmp_path)), told_of_full_disk(tmp_path):
            FULL.write_text("anything")

    def test_hears_it_from_programs(self, tmp_path: Path) -> None:
        """They print it; a copy of a whole tree lists it."""
        with pytest.raises(DiskFull), told_of_full_disk(tmp_path):
            run([sys.executable, "-c", f"print(1, file=open('{FULL}', 'w'), flush=True)"])
        with pytest.raises(DiskFull), told_of_full_disk(tmp_path):
            raise shutil.Error([("a", "b", f"[Errno 28] {os.strerror(errno.ENOSPC)}: 'b'")])
        assert tells_of_full_disk(f"pg_wal/0: {os.strerror(errno.EDQUOT)}")

    def test_is_not_said_of_other_trouble(self, tmp_path: Path) -> None:
        """It stays what it is."""
        with pytest.raises(Trouble, match="another"), told_of_full_disk(tmp_path):
            raise_here(Trouble("another"))

    def test_is_said_once(self, tmp_path: Path) -> None:
        """Whoever was nearest knows the folder best."""
        with pytest.raises(DiskFull, match="/nearest"), told_of_full_disk(tmp_path):
            raise_here(DiskFull(Path("/nearest")))

    @pytest.mark.parametrize("name", ["logs", "status"])
    def test_is_understood_of_every_command(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not only of those that write much."""
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/some/file")
        monkeypatch.setattr(f"cli.{name}.current", lambda: raise_here(error))

        with pytest.raises(DiskFull, match="/some cannot take"):
            main([name])


@pytest.mark.usefixtures("full_disk")
class TestLooking:
    """The disk itself is looked at, for not every program says what ailed it."""

    def test_finds_it_behind_any_failure(self, tmp_path: Path) -> None:
        """Such as a server that fell silent."""
        with pytest.raises(DiskFull), told_of_full_disk(tmp_path):
            raise_here(Trouble("postgres did not get ready"))

    def test_is_not_done_for_a_command_that_writes_nothing(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Its own trouble has nothing to do with the disk."""
        monkeypatch.setenv("OMS_STATE", str(tmp_path))

        with pytest.raises(Trouble, match="There are no logs"):
            main([logs.__name__.rpartition(".")[2]])

    def test_stops_a_program_that_waits_for_ever(self, tmp_path: Path) -> None:
        """As apt-get does when it cannot write."""
        output, code = debian.outcome([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path)

        assert (output, code) == ("", -9)

    def test_comes_before_anything_is_started(self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """Up says how much is missing."""
        monkeypatch.setattr(cluster.supervisor, "ensure", lambda: pytest.fail("it was started"))

        with pytest.raises(DiskFull, match=f"{cluster.state.folder} has room for 0 MB and needs 256 MB"):
            cluster.up({})

    def test_ends_the_waiting(self, cluster: Cluster) -> None:
        """A server that cannot write will not get ready."""
        assert not cluster.may_get_ready(["postgres"])


class TestRoom:
    """How much can be written."""

    def test_is_known_of_a_folder_that_is_yet_to_be_made(self, tmp_path: Path) -> None:
        """It will be on the disk of what is above it."""
        assert room(tmp_path / "a" / "b") > 0

    def test_is_none_where_no_file_can_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever number of bytes is left."""
        disk = os.statvfs(tmp_path)
        monkeypatch.setattr(os, "statvfs", lambda _folder: os.statvfs_result([*disk[:7], 0, *disk[8:]]))

        assert room(tmp_path) == 0

    def test_is_demanded(self, tmp_path: Path) -> None:
        """And enough is enough."""
        require_room(tmp_path, 1)
        with pytest.raises(DiskFull, match="needs"):
            require_room(tmp_path, 2**70)


class TestFetching:
    """RabbitMQ's way into the cache."""

    def test_begins_with_tidying_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a killed command left half-made takes no room for ever."""
        (tmp_path / "part-of-long-ago").mkdir()
        monkeypatch.setattr(debian, "step", lambda _arguments, _folder: "")
        monkeypatch.setattr(debian, "patch", lambda draft, _tree: draft.mkdir())

        debian.fetch(tmp_path / "tree")

        assert [entry.name for entry in tmp_path.iterdir()] == ["tree"]


def test_dev_full_is_what_it_should_be() -> None:
    """Else the tests above would show nothing."""
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)), io.FileIO(FULL, "w") as file:
        file.write(b"x")
