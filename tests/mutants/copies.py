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

OF_THE_MUTANT: Final = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "TypeError", "AttributeError")
"""A test that fails with these has met a mutant that does not run, not one that does wrong."""


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
        return run_tests(checkout, [mutant.killer], servers, LIMIT_SECONDS)


def run_tests(checkout: Path, tests: Sequence[str], servers: Mapping[str, str], seconds: float) -> Verdict:
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
    return judged(child.process.returncode, report, last_lines(log, 40), time.monotonic() - began)


def judged(code: int, report: Path, log: str, seconds: float) -> Verdict:
    """What pytest's exit code and report come to; an error around a test is no failure of it."""
    if code == 0:
        return Verdict(passed=True, failed=False, word="passed", seconds=seconds)
    words = complaints(report) if code == 1 else []
    if not words:
        return Verdict(passed=False, failed=False, word=f"did not run:\n{log}", seconds=seconds)
    failed = not words[0].startswith(OF_THE_MUTANT)
    return Verdict(passed=False, failed=failed, word=words[0], seconds=seconds)


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
