"""Which commands there are: every module of this folder that says ``HELP = "..."`` is one, named like its file.

A command module offers ``HELP: str``, ``configure(parser: ArgumentParser) -> None`` and
``run(args: Namespace) -> int``. One that says ``PASSES_ON = True`` gets all its arguments unread, as ``args.rest``.
The help lines are read without importing anything, so that ``./oms --help`` works before anything is installed.
"""

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ORDER = [
    *("up", "demo", "status", "logs", "shell", "doctor", "dead-letters"),
    *("reset", "down", "topology", "contract", "prepare", "test", "faults", "mutants", "chaos", "lint"),
]
TITLE = "oms - the order management system's one command"


def commands() -> dict[str, str]:
    """Each command's name and its line of help, the everyday ones first."""
    found = {}
    for file in FOLDER.glob("*.py"):
        line = help_of(file)
        if line:
            found[file.stem.replace("_", "-")] = line
    return {name: found[name] for name in sorted(found, key=place)}


def place(name: str) -> tuple[int, str]:
    """Where the command stands in the list."""
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def help_of(file: Path) -> str:
    """The module's line of help; empty when it is no command."""
    for statement in ast.parse(file.read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id="HELP")], value=ast.Constant(value=str(line))):
                return line
    return ""


def overview() -> str:
    """What ``./oms`` says when it is asked nothing."""
    lines = [f"  {name:<14}{line}" for name, line in commands().items()]
    return "\n".join(
        [TITLE, "", "Usage: ./oms <command> [options]", "", *lines, "", "./oms <command> --help tells more."]
    )
