"""The fault suite says no more than was seen: what excuses late answers, and what a fault counts that was not done."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.faults.fault_report import SAID, Case, FaultReport
from tests.faults.trial import PROBE_SECONDS, Watch


@pytest.fixture
def watch() -> Watch:
    """Over nobody."""
    nobody: Any = SimpleNamespace(children={})
    return Watch(nobody)


class TestWatch:
    """Deadlines are relaxed by how busy the machine is, and by nothing else."""

    @pytest.mark.parametrize("probe", ["slowest_health", "slowest_readiness"])
    def test_a_process_that_is_blocked_does_not_excuse_itself(self, watch: Watch, probe: str) -> None:
        """However long its probes take."""
        setattr(watch, probe, 20.0)

        assert watch.allowance == 1.0
        with pytest.raises(AssertionError):
            watch.check()

    def test_a_machine_that_is_late_itself_does(self, watch: Watch) -> None:
        """The watch was not woken in time either."""
        watch.latest_waking, watch.slowest_health = 2.0, PROBE_SECONDS + 15.0

        watch.check()


class TestReport:
    """One line per fault."""

    def test_does_not_count_as_passed_what_was_only_said(self, tmp_path: Path) -> None:
        """Where no disk could be filled, PostgreSQL only said that it was full."""
        report = FaultReport(tmp_path)
        report.cases = {each: Case("servers", "The disk is full.", "is survived", each) for each in ("done", "said")}
        for each, figures in (("done", []), ("said", [(SAID, "it needs root")])):
            for _ in ("setup", "call", "teardown"):
                ended: Any = SimpleNamespace(nodeid=each, user_properties=figures, duration=1.0, outcome="passed")
                report.pytest_runtest_logreport(ended)

        assert report.document()["totals"].items() >= {"passed": 1, SAID: 1}.items()
        assert list(report.table())[2].endswith("| 2 | 1 (1 said, not done) | 6.0 |")
