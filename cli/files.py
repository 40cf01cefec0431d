"""Files that survive a power cut: written beside their place and moved into it; secrets for their owner only."""

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.trouble import Trouble


def make_folder(folder: Path, mode: int = 0o700) -> Path:
    """The folder, made with its parents when it was not there."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(
            f"{folder} cannot be made: {error.strerror}. "
            "Give this user write access there, or set OMS_STATE to a folder elsewhere."
        ) from error
    return folder


def write_atomic(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace the file's content as a whole; whoever reads meanwhile sees the old or the new, never a half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def secret(folder: Path, name: str, length: int = 24) -> str:
    """The secret of that name, the same at every call; made of ``length`` random bytes at the first."""
    path = make_folder(folder) / name
    try:
        kept = path.read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        kept = ""
    if not kept or not kept.isprintable():  # a power cut leaves nothing, or anything
        kept = secrets.token_urlsafe(length)
        write_atomic(path, kept + "\n")
    return kept


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, waiting for whoever holds it; the kernel lets go of it when the holder dies."""
    make_folder(path.parent)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
