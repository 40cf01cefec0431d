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
CLAIMS: dict[int, socket.socket] = {}
"""The ports this process has chosen. Each claim ends with the process, when its servers have long been listening."""


class Ports:
    """The ports of one state folder, by name."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def known(self) -> dict[str, int]:
        """Every port written down so far."""
        try:
            ports = json.loads(self.file.read_text())
            return {str(name): int(port) for name, port in ports.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):  # a power cut leaves anything in a file
            return {}

    def of(self, name: str) -> int:
        """The port of that name; raises :class:`Trouble` when there is none."""
        port = self.known().get(name)
        if port is None:
            raise Trouble(f"{self.file} does not say the port of {name}. Run ./oms up: it finds one.")
        return port

    def take(self, name: str, preferred: int = 0) -> int:
        """A free port for ``name``: the preferred, else the one it had, else any; not while it runs."""
        with locked(self.file.with_suffix(".lock")):
            ports = self.known()
            others = {port for other, port in ports.items() if other != name}
            for candidate in (preferred, ports.get(name, 0)):
                if candidate and candidate not in others and can_have(candidate):
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
        if candidate not in without and can_have(candidate):
            return candidate
    raise Trouble(f"No port between {FIRST} and {LAST} is free. End what listens there.")


def can_have(port: int) -> bool:
    """Whether nobody listens on this port and no other cluster that is starting, whoever's it is, has chosen it."""
    return is_free(port) and claim(port)


def claim(port: int) -> bool:
    """Whether this process has the port's claim: a name that the kernel gives to one process and takes back itself."""
    if port not in CLAIMS:
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0oms-port-{port}")
        except OSError:
            name.close()
            return False
        CLAIMS[port] = name
    return True


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
