"""Telling a full disk from any other trouble, and which folder is on it.

Only the standard library is used: ``oms`` needs this before there is a virtual environment.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.trouble import Trouble

WORDS = tuple(os.strerror(code).lower() for code in (errno.ENOSPC, errno.EDQUOT))
"""How every program on this system, including those we start, says that there is no room."""
LEAST = 2**20
"""With less than this left nothing can be done, whatever a program made of it."""


class DiskFull(Trouble):
    """There is no room for what the command has to write."""

    def __init__(self, folder: Path, reason: str = "cannot take any more") -> None:
        super().__init__(f"The disk is full: {folder} {reason}. Make room there, then run this again.")


@contextmanager
def told_of_full_disk(*folders: Path, look: bool = True) -> Iterator[None]:
    """What fails inside because one of these folders has no room is raised as :class:`DiskFull`.

    Without ``look`` only an error that says so itself counts: then the folders are those it may be about.
    """
    try:
        yield
    except DiskFull:
        raise
    except Exception as error:  # a full disk shows itself as anything
        fullest = min(folders, key=room)  # programs tidy up when they fail: it need not be full any more
        if look and room(fullest) < LEAST:
            raise DiskFull(fullest) from error
        if tells_of_full_disk(str(error)):
            raise DiskFull(named(error) or fullest) from error
        raise


def named(error: Exception) -> Path | None:
    """The folder of the file that the error names."""
    file = getattr(error, "filename", None)
    return Path(file).parent if isinstance(file, str | Path) else None


def tells_of_full_disk(text: str) -> bool:
    """Whether a program that printed this had no room to write."""
    return any(words in text.lower() for words in WORDS)


def require_room(folder: Path, wanted: int) -> None:
    """Raise :class:`DiskFull` when so much cannot be written there."""
    left = room(folder)
    if left < wanted:
        raise DiskFull(folder, f"has room for {left >> 20} MB and needs {wanted >> 20} MB")


def room(folder: Path) -> int:
    """How many bytes this user may still write there, or below where it will be; none when no file can be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    disk = os.statvfs(folder)
    return 0 if disk.f_files and not disk.f_favail else disk.f_bavail * disk.f_frsize
