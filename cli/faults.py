"""``./oms faults``: the whole fault suite, also what takes too long for ``./oms test``."""

import argparse
from pathlib import Path

from cli import test
from cli.state import current

HELP = "break everything that can break, and report what came of it"
PASSES_ON = True
SUITE = ("tests/faults", "tests/saga")
"""What goes wrong in production, each thing on its own; and the saga where a server or a service is away."""


def run(args: argparse.Namespace) -> int:
    """Pytest's exit code."""
    parser = argparse.ArgumentParser(prog="oms faults", description=HELP, epilog="Further arguments go to pytest.")
    parser.add_argument("--report", type=Path, default=current().folder / "faults", help="where to write the report")
    known, rest = parser.parse_known_args(args.rest)
    chosen = [] if any(part.startswith(SUITE) for part in rest) else SUITE
    everything = ["-m", "", "-v", "--tb=short", "--report", str(known.report.absolute())]
    return test.run(argparse.Namespace(rest=[*everything, *chosen, *rest]))
