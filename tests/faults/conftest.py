"""The fault suite: what goes wrong in production, done to one running cluster, and a report of what came of it.

``./oms test`` runs the smoke; what is marked ``long`` is run by ``./oms faults`` alone.
"""

from pathlib import Path

import pytest

from tests.support.fault_report import FaultReport


def pytest_addoption(parser: pytest.Parser) -> None:
    """``./oms faults --report DIR`` comes down to this."""
    parser.addoption("--report", type=Path, default=None, help="a folder for faults.md and faults.json")


def pytest_configure(config: pytest.Config) -> None:
    """Report when somebody asked for it."""
    folder = config.getoption("--report", default=None)
    if folder is not None:
        config.pluginmanager.register(FaultReport(folder))


@pytest.fixture(scope="module", autouse=True)
def _ends_well(holds_together: None) -> None:
    """After each module every invariant of the saga holds."""
