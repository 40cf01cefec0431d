"""The fault suite: what goes wrong in production, done to one running cluster, and a report of what came of it.

``./oms test`` runs the smoke; what is marked ``long`` is run by ``./oms faults`` alone.

Each ``test_*.py`` is one kind of fault. The other modules, by whom they serve:

- kill points: ``stops`` (which points there are, and a folder by which test and process agree on one), ``hooks`` (puts
  them into the services from outside), ``runner`` (``nameko run`` with the hooks in, and forks the next when it dies),
  ``kill_table`` (every case, read from the code), ``kill_stories`` (how each cause is made to happen, and must end),
  ``kill_walk`` (the customer of a story), ``kill_engine`` (carries the table out)
- lines and servers: ``trial`` (orders under way while something is broken, and recovery), ``server_troubles``;
  lines are ``tests/support/lines.py`` and ``wiring.py``
- three nodes of a broker: ``tests/support/three_nodes.py``, with the load and the verdict of ``tests/chaos``
- messages: ``message_cases`` and ``message_orders`` (each order of arrival, in this process), ``message_stories``,
  ``message_detour`` and ``message_backlog`` (copies, late ones and masses, in the cluster), ``message_poison``,
  ``message_lies``, ``message_letters`` (dead letters and their replay)
- races and clocks: ``crowd`` (many customers at once), ``shifted`` (``nameko run`` with a wrong clock)
- repairs: ``repair_table``, ``repair_stories``, ``repair_alarms``, ``clinic`` (the operator's commands on a cluster)
- the report of a run: ``fault_report``
"""

from pathlib import Path

import pytest

from tests.faults.fault_report import FaultReport


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
