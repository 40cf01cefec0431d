"""``./oms logs``: the ends of the logs, or what is being written to them."""

import argparse
import time
from pathlib import Path
from typing import BinaryIO

from cli.servers.programs import last_lines
from cli.state import current
from cli.trouble import Trouble

HELP = "show the logs of all or of one process; -f follows them"
WIDTH = 14


def configure(parser: argparse.ArgumentParser) -> None:
    """[process] [-f] [-n LINES]."""
    parser.add_argument("process", nargs="?", help="such as orders, gateway, rabbitmq; all services without it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument("-n", "--lines", type=int, default=20, help="how many lines of each to show (20)")


def run(args: argparse.Namespace) -> int:
    """0; following ends with Ctrl-C."""
    files = wanted(current().logs, args.process)
    for file in files:
        for line in last_lines(file, args.lines).splitlines() if args.lines else []:
            print(labelled(file, line, alone=len(files) == 1))
    if args.follow:
        follow(files)
    return 0


def wanted(folder: Path, process: str | None) -> list[Path]:
    """The log files asked for."""
    found = sorted(folder.glob("*.log"))
    if not found:
        raise Trouble(f"There are no logs in {folder}. Start the cluster: ./oms up")
    if process is None:
        return found
    chosen = [file for file in found if file.stem == process or file.stem.startswith(f"{process}-")]
    if not chosen:
        raise Trouble(f"There is no log of {process!r}; there are {', '.join(file.stem for file in found)}.")
    return chosen


def labelled(file: Path, line: str, *, alone: bool) -> str:
    """The line, with the process' name before it when there are several."""
    return line if alone else f"{file.stem:<{WIDTH}}| {line}"


def follow(files: list[Path]) -> None:
    """Print what is added to the files, also after they were rotated away."""
    open_files = {file: opened(file, at_end=True) for file in files}
    while True:
        quiet = True
        for file, stream in open_files.items():
            for line in stream.readlines():
                print(labelled(file, line.decode(errors="replace").rstrip("\n"), alone=len(files) == 1), flush=True)
                quiet = False
            if quiet and file.exists() and file.stat().st_ino != inode(stream):
                stream.close()
                open_files[file] = opened(file, at_end=False)
        if quiet:
            time.sleep(0.2)


def opened(file: Path, *, at_end: bool) -> BinaryIO:
    """The file, open for reading."""
    stream = file.open("rb")
    if at_end:
        stream.seek(0, 2)
    return stream


def inode(stream: BinaryIO) -> int:
    """Which file the stream reads, whatever its name is now."""
    return Path(f"/proc/self/fd/{stream.fileno()}").stat().st_ino
