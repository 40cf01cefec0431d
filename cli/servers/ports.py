"""Free ports that stay the same: chosen once, written down, and chosen again only when somebody else has taken them."""

import json
import secrets
import socket
from pathlib import Path

from cli.files import locked, write_atomic
from cli.trouble import Trouble

FIRST, LAST = 20_000, 32_000
"""Below the range from which Linux takes ports for outgoing connections (32768 and up), so none is snatched from us."""
LOOPBACK = "127.0.0.1"


class Ports:
    """The ports of one state folder, by name."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def known(self) -> dict[str, int]:
        """Every port written down so far."""
        try:
            ports = json.loads(self.file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(name): int(port) for name, port in ports.items()}

    def take(self, name: str, preferred: int = 0) -> int:
        """A free port for ``name``: the preferred, else the one it had, else any; not while it runs."""
        with locked(self.file.with_suffix(".lock")):
            ports = self.known()
            others = {port for other, port in ports.items() if other != name}
            for candidate in (preferred, ports.get(name, 0)):
                if candidate and candidate not in others and is_free(candidate):
                    break
            else:
                candidate = any_free(others)
            ports[name] = candidate
            write_atomic(self.file, json.dumps(ports, indent=2) + "\n")
        return candidate

    def forget(self, name: str) -> None:
        """Give the port of that name back."""
        with locked(self.file.with_suffix(".lock")):
            ports = self.known()
            if ports.pop(name, None):
                write_atomic(self.file, json.dumps(ports, indent=2) + "\n")


def any_free(without: set[int]) -> int:
    """A free port that is not among those."""
    for candidate in secrets.SystemRandom().sample(range(FIRST, LAST), 500):
        if candidate not in without and is_free(candidate):
            return candidate
    raise Trouble(f"No port between {FIRST} and {LAST} is free. End what listens there.")


def is_free(port: int) -> bool:
    """Whether nobody listens on this port, on the loopback address or on all of them."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections that linger are no listeners
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Whether somebody accepts a connection on this port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
