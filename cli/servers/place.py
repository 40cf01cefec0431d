"""Where servers keep their files: below the wanted folder, or in a stand-in when servers could not live there.

A stand-in is needed when the path is long (a socket's path ends at 107 bytes), holds a space (RabbitMQ's start scripts
do not quote), or when we are root and the folder is closed to the account PostgreSQL runs as.
"""

import hashlib
import os
import re
import shutil
import stat
from pathlib import Path

from cli.files import make_folder, write_atomic
from cli.trouble import Trouble

PLAIN = re.compile(r"[A-Za-z0-9._/+-]+")
LONGEST = 60
STAND_INS = Path("/var/tmp")  # noqa: S108 - the stand-in's owner is checked; unlike /tmp it outlives a reboot
RECORD = "place"


def servers_folder(wanted: Path) -> Path:
    """The folder in which servers can live for the sake of ``wanted``; the same at every call."""
    make_folder(wanted, 0o711)
    wanted = wanted.resolve()
    if fits(wanted):
        return wanted
    stand_in = stand_in_of(wanted)
    record = wanted / RECORD
    if stand_in.exists() and not record.exists():
        remove_stand_in(stand_in)  # of an earlier folder at this path: its passwords went with that one
    make_stand_in(stand_in)
    write_atomic(record, f"{stand_in}\n")
    return stand_in


def fits(folder: Path) -> bool:
    """Whether servers of every kind can live at this path."""
    path = str(folder)
    return bool(PLAIN.fullmatch(path)) and len(path) <= LONGEST and (os.geteuid() != 0 or open_to_all(folder))


def open_to_all(folder: Path) -> bool:
    """Whether every account may pass through the folder and all above it."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))


def stand_in_of(wanted: Path) -> Path:
    """The stand-in's path: short, and different for every wanted folder and user."""
    digest = hashlib.sha256(f"{os.geteuid()}:{wanted}".encode()).hexdigest()
    return STAND_INS / f"oms-{digest[:16]}"


def make_stand_in(stand_in: Path) -> None:
    """Make the folder, and refuse one that somebody else has put there."""
    make_folder(stand_in, 0o711)
    found = stand_in.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise Trouble(f"{stand_in} belongs to somebody else. Remove it, or set OMS_STATE to a short path.")
    stand_in.chmod(0o711)


def remove_stand_in(stand_in: Path) -> None:
    """Remove the folder with everything in it, if it is ours."""
    if stand_in.is_symlink() or stand_in.lstat().st_uid != os.geteuid():
        return
    shutil.rmtree(stand_in)


def remove(wanted: Path) -> None:
    """Remove the wanted folder and its stand-in."""
    stand_in = stand_in_of(wanted.resolve())
    if stand_in.exists():
        remove_stand_in(stand_in)
    shutil.rmtree(wanted, ignore_errors=True)
