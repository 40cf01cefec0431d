"""Finds the command's module, reads its arguments and runs it; trouble is told in a sentence, without a traceback."""

import argparse
import importlib
import os
import sys
import warnings

from cli.commands import commands, overview
from cli.space import told_of_full_disk
from cli.state import current
from cli.trouble import Trouble


def main(arguments: list[str]) -> int:
    """The command's exit code."""
    known = commands()
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(overview())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in known:
        print(f"oms: there is no command {name!r}.\n\n{overview()}", file=sys.stderr)
        return 2
    with told_of_full_disk(current().folder, look=False):
        return run(name, rest)


def run(name: str, rest: list[str]) -> int:
    """The exit code of the command of that name."""
    module = importlib.import_module(f"cli.{name.replace('-', '_')}")
    if getattr(module, "PASSES_ON", False):
        return int(module.run(argparse.Namespace(rest=rest)))
    parser = argparse.ArgumentParser(prog=f"oms {name}", description=commands()[name])
    module.configure(parser)
    return int(module.run(parser.parse_args(rest)))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")  # docs/decisions say why it is used
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        print(f"oms: {trouble}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
