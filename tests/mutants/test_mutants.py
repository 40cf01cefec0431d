"""The list of mutants: each fits the code, is a program, and names a test that is there."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from cli.state import CHECKOUT
from cli.trouble import Trouble
from tests.mutants.catalogue import MUTANTS
from tests.mutants.copies import ASSERTED, REFUSED, Verdict, judged, try_mutant
from tests.mutants.mutant import Edit, Mutant
from tests.mutants.run import chosen, summary, table

NAMES: Final = [each.name for each in MUTANTS]
REPORT: Final = '<testsuites><testsuite><testcase name="t">{}</testcase></testsuite></testsuites>'


class TestEveryMutant:
    """What must stay true of the list while the code moves on."""

    @pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
    def test_fits_the_code_at_exactly_one_place(self, mutant: Mutant) -> None:
        """And what comes out is another program."""
        for file, source in mutant.sources(CHECKOUT).items():
            compile(source, file, "exec")
            assert source != (CHECKOUT / file).read_text()

    def test_names_nothing_that_does_not_exist(self, tmp_path: Path) -> None:
        """A mutant that only fails to run would be found by any test."""
        for mutant in MUTANTS:
            for file, source in mutant.sources(CHECKOUT).items():
                (tmp_path / f"{mutant.name}-{file.replace('/', '-')}").write_text(source)

        ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select", "F82", str(tmp_path)]
        found = subprocess.run(ruff, check=False, capture_output=True, text=True)

        assert found.returncode == 0, found.stdout

    def test_has_a_killer_that_is_there(self) -> None:
        """Pytest finds every one of them, the case included."""
        killers = sorted({mutant.killer for mutant in MUTANTS})
        quietly = ["--suppress-nameko-eventlet-notification", "--collect-only", "-q"]

        found = subprocess.run(
            [sys.executable, "-m", "pytest", *quietly, *killers],
            check=False,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
        )

        assert found.returncode == 0, found.stderr
        collected = found.stdout.splitlines()
        assert [each for each in killers if not any(line.startswith(each) for line in collected)] == []

    def test_has_a_name_of_its_own(self) -> None:
        """By which it is called."""
        assert len(set(NAMES)) == len(NAMES)


class TestEdit:
    """A piece of text for another."""

    @pytest.mark.parametrize("source", ["", "a = 1\na = 1\n"])
    def test_refuses_a_file_that_has_moved_on(self, source: str) -> None:
        """It says which file, and what it looked for."""
        with pytest.raises(Trouble, match=r"some\.py has"):
            Edit("some.py", "a = 1", "a = 2").applied(source)


class TestVerdict:
    """Only a test that ran and failed has found something."""

    @pytest.mark.parametrize(
        ("code", "case", "passed", "failed"),
        [
            (0, "", True, False),
            (1, '<failure message="AssertionError: assert 1 == 2&#10;more" />', False, True),
            (1, '<failure message="assert [1] == []" />', False, True),
            (1, "<failure message=\"Failed: DID NOT RAISE &lt;class 'X'&gt;\" />", False, True),
            (1, '<failure message="KeyError: 1" /><failure message="assert 1 == 2" />', False, True),
            (1, '<failure message="sqlalchemy.exc.OperationalError: connection refused" />', False, False),
            (1, '<failure message="sqlalchemy.exc.IntegrityError: (psycopg2...) ..." />', False, False),
            (1, "<failure message=\"KeyError: 'x'\" />", False, False),
            (1, "<failure message=\"NameError: name 'x' is not defined\" />", False, False),
            (1, '<error message="no server" />', False, False),
            (4, "", False, False),
        ],
        ids=[
            "passed",
            "asserted with a word",
            "asserted",
            "not raised",
            "asserted by one of two",
            "no server",
            "refused by the database",
            "stumbled",
            "not a program",
            "error around it",
            "no such test",
        ],
    )
    def test_tells_failing_from_not_running(
        self,
        tmp_path: Path,
        code: int,
        case: str,
        passed: bool,  # noqa: FBT001 - parameters
        failed: bool,  # noqa: FBT001 - likewise
    ) -> None:
        """An error of the mutant, of a server or of anything else kills nobody."""
        report = tmp_path / "report.xml"
        report.write_text(REPORT.format(case))

        verdict = judged(code, report, "the log", 1.0)

        assert (verdict.passed, verdict.failed) == (passed, failed)

    def test_counts_a_refusal_where_one_stops_the_mistake(self, tmp_path: Path) -> None:
        """Which the mutant says."""
        report = tmp_path / "report.xml"
        report.write_text(REPORT.format('<failure message="sqlalchemy.exc.IntegrityError: (psycopg2...) ..." />'))

        assert judged(1, report, "the log", 1.0, (*ASSERTED, REFUSED)).failed


class TestTrying:
    """A mistake is made in a copy, and its killer run there."""

    def test_finds_a_real_one(self) -> None:
        """One whose killer needs no server; the checkout itself stays as it is."""
        (mutant,) = chosen(["acknowledge-before-commit"])

        verdict = try_mutant(mutant, {})

        assert verdict.failed, verdict.word
        assert mutant.sources(CHECKOUT)

    def test_finds_nothing_where_the_killer_does_not_look(self) -> None:
        """The mistake lives, and is said to."""
        (mutant,) = chosen(["acknowledge-before-commit"])
        (other,) = chosen(["lost-calls-channel-kept"])

        verdict = try_mutant(replace(mutant, killer=other.killer), {})

        assert not verdict.failed, verdict.word


class TestRun:
    """What the command says."""

    def test_refuses_a_name_that_no_mutant_has(self) -> None:
        """And says where the names are."""
        with pytest.raises(Trouble, match="--list"):
            chosen(["no-outbox", "no-such-thing"])

    def test_takes_all_unless_some_are_named(self) -> None:
        """In the order of the list."""
        assert chosen([]) == list(MUTANTS)
        assert [each.name for each in chosen(["no-outbox"])] == ["no-outbox"]

    def test_names_those_that_live(self) -> None:
        """In the table and in the last line."""
        verdicts = dict(zip(MUTANTS, self.verdicts(), strict=False))

        assert summary(verdicts) == f"1 of 2 died. Still alive: {MUTANTS[1].name}."
        assert [line.split(" | ")[2][:7] for line in list(table(verdicts))[2:]] == ["tests/u", "nothing"]

    def verdicts(self) -> Iterator[Verdict]:
        """One of each."""
        yield Verdict(passed=False, failed=True, word="assert 1 | 2", seconds=1.0)
        yield Verdict(passed=True, failed=False, word="passed", seconds=1.0)
