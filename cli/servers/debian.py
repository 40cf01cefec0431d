"""RabbitMQ, and what else is needed, from Debian's packages: unpacked without root and without installing anything.

Only the standard library is used: ``oms`` runs this file beside pip, before there is a virtual environment.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.files import locked, make_folder
from cli.servers.place import servers_folder
from cli.space import LEAST, require_room, room, told_of_full_disk
from cli.trouble import Trouble

PACKAGES = ["rabbitmq-server", "erlang-base", "erlang-asn1", "erlang-crypto", "erlang-eldap", "erlang-inets"]
PACKAGES += ["erlang-mnesia", "erlang-os-mon", "erlang-parsetools", "erlang-public-key", "erlang-runtime-tools"]
PACKAGES += ["erlang-ssl", "erlang-syntax-tools", "erlang-tools", "erlang-xmerl"]
BUILT_FOR = "/usr/lib/erlang"
"""Where Debian's Erlang believes to be; its start scripts hold this path."""
HALF = "part-"
"""How the names of half-made trees begin; while the cache is locked, those are of somebody who was killed."""
ROOM = 200 * 2**20
"""Bytes it takes to fetch and unpack everything."""
OTHER_WAY = "Install rabbitmq-server, or set OMS_RABBITMQ_URL and OMS_RABBITMQ_MANAGEMENT_URL to a broker of your own."


class Failed(Exception):
    """A program that did not end well, with its last lines."""


@dataclass(frozen=True)
class Software:
    """What can be fetched: its packages, the first being the one that names the libraries all of them need."""

    title: str
    packages: Sequence[str]
    other_way: str


RABBITMQ = Software("RabbitMQ", PACKAGES, OTHER_WAY)


def unpacked(fallback: Path, software: Software = RABBITMQ) -> Path:
    """The tree of the software, fetched at the first call; ``fallback`` serves when no cache is writable."""
    cache = cache_folder(fallback)
    tree = cache / f"{software.title.lower()}-{release()}"
    with locked(cache / "lock"):
        if not tree.exists():
            fetch(tree, software)
    return tree


def cache_folder(fallback: Path) -> Path:
    """The folder that all clones of this user share: OMS_CACHE, else XDG_CACHE_HOME/oms, else ~/.cache/oms."""
    named = os.environ.get("OMS_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "oms"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError:
        base = fallback / "cache"
    if not os.access(base, os.W_OK | os.X_OK):
        base = fallback / "cache"
    return servers_folder(base) if " " in str(base) else make_folder(base, 0o755)


def release() -> str:
    """The system and the processor the packages are made for, such as ``debian-12-x86_64``."""
    try:
        system = platform.freedesktop_os_release()
    except OSError:
        system = {}
    return f"{system.get('ID', 'linux')}-{system.get('VERSION_ID', '0')}-{platform.machine()}"


def fetch(tree: Path, software: Software = RABBITMQ) -> None:
    """Download, unpack and patch into ``tree``, which appears only when it is complete."""
    for tool in ("apt-get", "dpkg-deb"):
        if not shutil.which(tool):
            raise Trouble(
                f"{software.title} is not installed, and without {tool} it cannot be fetched. {software.other_way}"
            )
    for half in tree.parent.glob(f"{HALF}*"):
        shutil.rmtree(half)
    require_room(tree.parent, ROOM)
    with tempfile.TemporaryDirectory(prefix=HALF, dir=tree.parent) as work, told_of_full_disk(tree.parent):
        folder = Path(work)
        draft = folder / "tree"
        try:
            unpack(software, draft, folder)
        except Failed as failure:
            raise Trouble(f"{software.title} could not be fetched ({failure}\n{software.other_way}") from failure
        patch(draft, tree)
        draft.chmod(0o755)
        draft.rename(tree)


def unpack(software: Software, draft: Path, folder: Path) -> None:
    """Download the packages and the libraries this machine lacks for them, and unpack all into ``draft``."""
    options = private_apt(folder)
    apt(folder, [*options, "update"])
    libraries = missing_libraries(folder, options, software.packages[0])
    apt(folder, [*options, "download", *software.packages, *libraries])
    for package in sorted(folder.glob("*.deb")):
        step(["dpkg-deb", "-x", str(package), str(draft)], folder)


def private_apt(folder: Path) -> list[str]:
    """The options with which apt writes below ``folder`` only, while it reads the system's package sources."""
    for part in ("state/lists/partial", "cache/archives/partial"):
        make_folder(folder / part)
    options = {
        "Dir::State": folder / "state",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Update::Error-Mode": "any",
    }
    return ["-q", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]


def missing_libraries(folder: Path, options: list[str], package: str) -> list[str]:
    """The shared libraries this machine lacks for the package."""
    plan = apt(folder, [*options, "install", "--no-install-recommends", "--print-uris", "-qq", "-y", package])
    return sorted(set(re.findall(r"' (lib[a-z0-9.+-]+)_", plan)))


def apt(folder: Path, arguments: list[str]) -> str:
    """What apt-get printed."""
    return step(["apt-get", *arguments], folder)


def step(arguments: list[str], folder: Path) -> str:
    """What the program printed; raises :class:`Failed` with its last lines when it fails."""
    output, code = outcome(arguments, folder)
    if code:
        last = "\n".join(output.splitlines()[-8:])
        raise Failed(f"{arguments[0]} failed):\n{last}")
    return output


def outcome(arguments: list[str], folder: Path) -> tuple[str, int]:
    """What the program printed and its exit code."""
    with subprocess.Popen(
        arguments,
        cwd=folder,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "TMPDIR": str(folder)},
    ) as process:
        while True:
            try:
                return process.communicate(timeout=1)[0], process.returncode
            except subprocess.TimeoutExpired:
                if room(folder) < LEAST:
                    process.kill()  # apt-get would wait for ever


def patch(draft: Path, tree: Path) -> None:
    """Tell Erlang's start scripts where the tree will stand."""
    erlang = draft / BUILT_FOR.lstrip("/")
    for script in (*erlang.glob("bin/*"), *erlang.glob("erts-*/bin/*")):
        content = b"" if script.is_symlink() else script.read_bytes()
        if content.startswith(b"#!"):
            script.write_bytes(content.replace(BUILT_FOR.encode(), str(tree / BUILT_FOR.lstrip("/")).encode()))


def main() -> int:
    """Fill the cache if RabbitMQ is not installed; a failure is told by whoever needs it next."""
    if shutil.which("rabbitmq-server") or os.environ.get("OMS_RABBITMQ_URL"):
        return 0
    try:
        unpacked(Path(sys.argv[1]))
    except Trouble:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
