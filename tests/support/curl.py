"""The real curl: the machine's own, else Debian's, unpacked where RabbitMQ is when that had to be fetched."""

import shutil
from pathlib import Path
from shlex import quote
from typing import Final

from cli.servers.debian import Software, unpacked
from cli.trouble import Trouble

CURL: Final = Software("curl", ["curl"], "Install curl: the collection in clients/curl is tested with nothing else.")


def folder_of_curl(folder: Path) -> Path:
    """The folder to put on the PATH. Raises Trouble, which says what to do, where curl is not and cannot be had."""
    installed = shutil.which("curl")
    return Path(installed).parent if installed else fetched(folder)


def fetched(folder: Path) -> Path:
    """A folder with a ``curl`` that finds the libraries it came with."""
    tree = unpacked(folder, CURL)
    program = tree / "usr/bin/curl"
    if not program.exists():
        raise Trouble(f"{tree} holds no curl. Remove that folder and try again. {CURL.other_way}")
    libraries = ":".join(str(each) for each in (*tree.glob("usr/lib/*-linux-gnu*"), *tree.glob("lib/*-linux-gnu*")))
    script = folder / "curl"
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={quote(libraries)} exec {quote(str(program))} "$@"\n')
    script.chmod(0o755)
    return folder
