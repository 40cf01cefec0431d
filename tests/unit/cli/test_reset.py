"""``./oms reset`` asks first, and it and ``down --delete-everything`` delete a cluster's folder and no other."""

import io
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from cli import down, reset
from cli.progress import Progress
from cli.state import CHECKOUT, State
from cli.trouble import Trouble

SURE = Namespace(yes=True)
ASKING = Namespace(yes=False)


class Terminal(io.StringIO):
    """A person who has typed something."""

    def isatty(self) -> bool:
        """It is one."""
        return True


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done to the cluster, which is not there."""
    done: list[str] = []
    monkeypatch.setattr(reset, "delete_everything", lambda _state, _progress: done.append("deleted"))
    monkeypatch.setattr(reset, "bring_up", lambda _state: done.append("up"))
    for name in reset.GIVEN:
        monkeypatch.delenv(name, raising=False)
    return done


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a cluster could be."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setenv("OMS_STATE", str(folder))
    return folder


@pytest.mark.usefixtures("cluster")
class TestReset:
    """Everything goes, and a new cluster comes."""

    def test_does_not_ask_when_told_so(self, done: list[str]) -> None:
        """``--yes``."""
        assert reset.run(SURE) == 0

        assert done == ["deleted", "up"]

    @pytest.mark.parametrize("answer", ["y\n", "YES\n", " yes \n"])
    def test_goes_on_when_the_person_agrees(
        self, answer: str, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Having said what will be gone."""
        monkeypatch.setattr(sys, "stdin", Terminal(answer))

        assert reset.run(ASKING) == 0

        assert done == ["deleted", "up"]
        assert "databases, queues, mails, logs and passwords" in capsys.readouterr().out

    @pytest.mark.parametrize("answer", ["\n", "n\n", "", "yesterday\n"])
    def test_does_nothing_otherwise(
        self, answer: str, done: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No answer means no."""
        monkeypatch.setattr(sys, "stdin", Terminal(answer))

        assert reset.run(ASKING) == 1

        assert done == []
        assert "Nothing was done." in capsys.readouterr().out

    def test_refuses_where_nobody_can_be_asked(self, done: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """A pipe that happens to say yes is nobody; the answer names the way out."""
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))

        with pytest.raises(Trouble, match="--yes"):
            reset.run(ASKING)

        assert done == []

    def test_asks_nothing_where_there_is_nothing(self, done: list[str], cluster: Path) -> None:
        """It is ``up`` then."""
        cluster.rmdir()

        assert reset.run(ASKING) == 0

        assert done == ["up"]

    @pytest.mark.parametrize("name", reset.GIVEN)
    def test_leaves_servers_alone_that_it_did_not_start(
        self, name: str, done: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Even when it is sure; the answer names the variable."""
        monkeypatch.setenv(name, "somewhere")

        with pytest.raises(Trouble, match=name):
            reset.run(SURE)

        assert done == []


class TestDeleteEverything:
    """The one way in which a cluster's folder goes."""

    def test_removes_the_folder(self, cluster: Path) -> None:
        """With what is in it."""
        (cluster / "ports.json").write_text("{}")

        down.delete_everything(State(cluster), Progress())

        assert not cluster.exists()

    @pytest.mark.parametrize("folder", [CHECKOUT, CHECKOUT.parent, Path.home(), Path("/")])
    def test_refuses_a_folder_that_holds_more(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Such as the checkout or a home, which a mistyped OMS_STATE would name; nothing is touched."""
        monkeypatch.setattr(down, "bring_down", lambda _state, _progress: pytest.fail("it was stopped"))
        monkeypatch.setattr(down, "remove", lambda _folder: pytest.fail("it was removed"))

        with pytest.raises(Trouble, match="OMS_STATE"):
            down.delete_everything(State(folder), Progress())
