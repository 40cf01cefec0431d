"""The report of a run of the fault suite: one line per promise and fault, every case, and the totals.

The fault is the first line of the test class's docstring, the promise the name of the test. What a test notes with
pytest's ``record_property`` appears as a figure of its case; ``seconds`` replaces the time that pytest measured.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pytest

TITLE: Final = "# What was broken, and what came of it"
SAID: Final = "said, not done"
"""The figure of a case whose fault could not be done here, so that the server only said what it would have said: why.
It is also the outcome of such a case, which has not passed."""


@dataclass
class Case:
    """One test and how it ended."""

    area: str
    fault: str
    promise: str
    case: str
    outcome: str = "passed"
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    complaint: str = ""

    @property
    def line(self) -> tuple[str, str, str]:
        """To which line of the table the case belongs."""
        return self.area, self.fault, self.promise


class FaultReport:
    """A plugin of pytest that writes ``faults.md`` and ``faults.json`` into the folder, and the table at the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.began = datetime.now(UTC)
        self.clock = time.monotonic()
        self.cases: dict[str, Case] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note what the item is about."""
        name, _, rest = item.name.partition("[")
        parent = getattr(item, "cls", None)
        self.cases[item.nodeid] = Case(
            area=words(item.path.stem),
            fault=(parent.__doc__ or parent.__name__).splitlines()[0] if parent else "",
            promise=words(name),
            case=rest.removesuffix("]"),
        )

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Forget what does not run."""
        for item in items:
            self.cases.pop(item.nodeid, None)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a part of a test ended."""
        case = self.cases[report.nodeid]
        case.figures.update(report.user_properties)
        case.seconds += report.duration
        if report.outcome != "passed":
            case.outcome = report.outcome
            case.complaint += report.longreprtext
        elif SAID in case.figures and case.outcome == "passed":
            case.outcome = SAID

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Show the table and write the report."""
        for case in self.cases.values():
            case.seconds = round(float(case.figures.pop("seconds", case.seconds)), 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = list(self.table())
        (self.folder / "faults.json").write_text(json.dumps(self.document(), indent=1, default=str) + "\n")
        (self.folder / "faults.md").write_text("\n".join([TITLE, "", *lines, *self.details()]) + "\n")
        terminalreporter.section("faults")
        terminalreporter.write_line("\n".join(lines))
        terminalreporter.write_line(f"\nThe report is in {self.folder}: faults.md, faults.json")

    def document(self) -> dict[str, Any]:
        """All of it."""
        seconds = round(time.monotonic() - self.clock, 1)
        totals = {"seconds": seconds, **Counter(case.outcome for case in self.cases.values())}
        cases = [asdict(case) for case in self.cases.values()]
        return {"began": self.began.isoformat(timespec="seconds"), "totals": totals, "cases": cases}

    def table(self) -> Iterator[str]:
        """One line per fault and promise, and the totals."""
        yield "| Area | Fault | Promise | Cases | Passed | Seconds |"
        yield "|---|---|---|---:|---:|---:|"
        ordered = sorted(self.cases.values(), key=lambda case: case.line)
        for line, members in groupby(ordered, key=lambda case: case.line):
            yield row(line, list(members))
        yield row(("**all**", "", ""), ordered)
        yield ""
        yield f"{time.monotonic() - self.clock:.0f} s in all, begun {self.began:%Y-%m-%d %H:%M} UTC."

    def details(self) -> Iterator[str]:
        """The figures, and what went wrong."""
        for case in self.cases.values():
            if case.figures or case.complaint:
                yield f"\n## {case.area}: {case.promise}{f' [{case.case}]' if case.case else ''} - {case.outcome}\n"
                yield from (f"- {name}: {value}" for name, value in case.figures.items())
                if case.complaint:
                    yield f"\n```\n{case.complaint}\n```"


def row(line: tuple[str, str, str], cases: list[Case]) -> str:
    """A line of the table."""
    outcomes = Counter(case.outcome for case in cases)
    passed = str(outcomes["passed"]) + (f" ({outcomes[SAID]} {SAID})" if outcomes[SAID] else "")
    seconds = sum(case.seconds for case in cases)
    return f"| {' | '.join(line)} | {len(cases)} | {passed} | {seconds:.1f} |"


def words(name: str) -> str:
    """A name of the code as people write it."""
    return name.removeprefix("test_").replace("_", " ")
