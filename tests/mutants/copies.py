"""Running tests on a copy of the checkout, and what came of them."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from cli.servers.endpoints import Endpoints
from cli.servers.programs import Child, Program, last_lines
from cli.state import CHECKOUT
from tests.mutants.mutant import Mutant

LIMIT_SECONDS: Final = 600
"""How long one killer may take; one that hangs has shown nothing."""

NOT_COPIED: Final = (".git", ".venv", ".oms", ".*_cache", ".hypothesis", "__pycache__")

ASSERTED: Final = ("assert ", "AssertionError", "Failed: ")
"""How a complaint begins that a test makes itself; whatever else it fails with may have come from anywhere."""

REFUSED: Final = "sqlalchemy.exc.IntegrityError: "
"""How that of a constraint begins; it counts for the mutants that say so."""


@dataclass(frozen=True)
class Verdict:
    """How a run of tests ended: ``failed`` by an assertion, or otherwise than a test should."""

    passed: bool
    failed: bool
    word: str
    seconds: float


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the checkout as it is now, gone after the block."""
    with tempfile.TemporaryDirectory(prefix="oms-mutant-") as folder:
        yield Path(shutil.copytree(CHECKOUT, Path(folder) / "checkout", ignore=shutil.ignore_patterns(*NOT_COPIED)))


def try_mutant(mutant: Mutant, servers: Mapping[str, str]) -> Verdict:
    """What the mutant's killer says of a copy with the mistake in it."""
    with copied() as checkout:
        mutant.write(checkout)
        found = (*ASSERTED, REFUSED) if mutant.is_refused else ASSERTED
        return run_tests(checkout, [mutant.killer], servers, LIMIT_SECONDS, found)


def run_tests(
    checkout: Path,
    tests: Sequence[str],
    servers: Mapping[str, str],
    seconds: float,
    found: tuple[str, ...] = ASSERTED,
) -> Verdict:
    """How the tests end in that checkout, with this one's virtual environment."""
    report, log, began = checkout.parent / "report.xml", checkout.parent / "log", time.monotonic()
    options = ["--suppress-nameko-eventlet-notification", "-q", "--tb=short", f"--junitxml={report}"]
    program = Program(
        name="pytest",
        arguments=[sys.executable, "-m", "pytest", *options, *tests],
        folder=checkout,
        environment={**servers, "PYTHONPATH": str(checkout)},
    )
    child = Child(program, log)
    try:
        child.process.wait(seconds)
    except subprocess.TimeoutExpired:
        return Verdict(passed=False, failed=False, word="did not end in time", seconds=time.monotonic() - began)
    finally:
        if child.alive:
            child.kill()
    return judged(child.process.returncode, report, last_lines(log, 40), time.monotonic() - began, found)


def judged(code: int, report: Path, log: str, seconds: float, found: tuple[str, ...] = ASSERTED) -> Verdict:
    """What pytest's exit code and report come to: only a complaint that begins like one of ``found`` is a failure."""
    if code == 0:
        return Verdict(passed=True, failed=False, word="passed", seconds=seconds)
    words = complaints(report) if code == 1 else []
    if not words:
        return Verdict(passed=False, failed=False, word=f"did not run:\n{log}", seconds=seconds)
    telling = [word for word in words if word.startswith(found)]
    return Verdict(passed=False, failed=bool(telling), word=(telling or words)[0], seconds=seconds)


def complaints(report: Path) -> list[str]:
    """The first line of what each failed test complained of."""
    failures = ET.parse(report).getroot().iter("failure")  # noqa: S314 - pytest has just written it
    return [each.get("message", "").partition("\n")[0] for each in failures]


def as_environment(servers: Endpoints) -> Mapping[str, str]:
    """What lets a run of tests use these servers; a Valkey, which is quickly there, it starts for itself."""
    return {
        "OMS_POSTGRES_URL": servers.postgres_url,
        "OMS_RABBITMQ_URL": servers.amqp_url,
        "OMS_RABBITMQ_MANAGEMENT_URL": servers.management.url,
    }
