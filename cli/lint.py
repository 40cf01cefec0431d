"""``./oms lint``: everything a machine can say about the code."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from cli.state import CHECKOUT

HELP = "check style, types and who may import whom"
BIN = Path(sys.executable).parent
CHECKS = [
    ["ruff", "check", ".", "oms"],
    ["ruff", "format", "--check", ".", "oms"],
    ["mypy"],
    ["lint-imports"],
]
SOURCES = [".", "clients/python/src"]
"""Where the packages are that import-linter looks into."""
MODULES = {"ruff": "ruff", "mypy": "mypy"}


def configure(parser: argparse.ArgumentParser) -> None:
    """It takes no arguments."""


def run(_args: argparse.Namespace) -> int:
    """0 when every check passes; all of them run in any case."""
    failed = [" ".join(check) for check in CHECKS if not passes(check)]
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nAll checks passed.")
    return 1 if failed else 0


def passes(check: list[str]) -> bool:
    """Whether this check finds nothing; it prints what it finds."""
    print(f"\n$ {' '.join(check)}", flush=True)
    command = [sys.executable, *program(check[0]), *check[1:]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(SOURCES)}
    return not subprocess.run(command, check=False, cwd=CHECKOUT, env=environment).returncode


def program(name: str) -> list[str]:
    """How to start the tool; its script's first line would break in a checkout whose path holds a space."""
    return ["-m", MODULES[name]] if name in MODULES else [str(BIN / name)]
