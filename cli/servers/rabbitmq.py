"""A private RabbitMQ: any that is installed, else Debian's packages unpacked without root.

Everything it opens is at the loopback address - AMQP, management, Erlang's distribution and its port mapper - and its
node name, ports, cookie and folders are its own, so it neither sees nor disturbs another broker on the machine.
"""

import hashlib
import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

from cli.broker import Broker
from cli.files import make_folder, secret, write_atomic
from cli.servers.debian import OTHER_WAY, unpacked
from cli.servers.endpoints import Management, amqp_url
from cli.servers.ports import LOOPBACK, Ports, answers
from cli.servers.programs import Program
from cli.trouble import Trouble

ADMIN = "administrator"
VHOST = "oms"


@dataclass(frozen=True)
class Installation:
    """Where RabbitMQ's start script and Erlang's programs are."""

    server: Path
    erlang: Path
    libraries: str = ""


class RabbitMQ:
    """How to prepare, start and reach the private RabbitMQ of one folder."""

    name = "rabbitmq"
    MAPPER = "epmd"
    MANAGEMENT = "management"
    DISTRIBUTION = "distribution"
    port_names: tuple[str, ...] = (name, MAPPER, MANAGEMENT, DISTRIBUTION)

    def __init__(self, folder: Path, secrets: Path, ports: Ports, *, durable: bool) -> None:
        self.home = folder / self.name
        self.fallback = folder
        self.secrets = secrets
        self.ports = ports
        self.durable = durable

    @property
    def url(self) -> str:
        """The administrator's AMQP URL at the services' virtual host."""
        return amqp_url(f"{LOOPBACK}:{self.ports.of(self.name)}", ADMIN, self.password, VHOST)

    @property
    def management(self) -> Management:
        """The management API."""
        return Management(f"http://{LOOPBACK}:{self.ports.of(self.MANAGEMENT)}", ADMIN, self.password)

    @property
    def way_out(self) -> str:
        """What to do when its files are damaged."""
        return (
            f"If its files are damaged: move {self.home / 'mnesia'} away, run ./oms up again, and then "
            "./oms doctor --repair, which sends again what was lost with them."
        )

    @property
    def node_name(self) -> str:
        """The name by which Erlang knows this broker; its files belong to that name."""
        return f"oms-{hashlib.sha256(str(self.home).encode()).hexdigest()[:8]}@localhost"

    @property
    def password(self) -> str:
        """The administrator's password."""
        return secret(self.secrets, self.name)

    def prepare(self) -> list[Program]:
        """Find or fetch it, write its configuration, choose its ports; answers what to start, in this order."""
        found = installed() or fetched(self.fallback)
        make_folder(self.home)
        write_atomic(self.home / "rabbitmq.conf", self.configuration())
        write_atomic(self.home / "definitions.json", json.dumps({"users": [self.administrator]}))
        write_atomic(self.home / ".erlang.cookie", secret(self.secrets, "erlang"), 0o400)
        write_atomic(self.home / "enabled_plugins", "[rabbitmq_management].\n")
        write_atomic(self.home / "environment.conf", "")
        environment = self.environment(found)
        mapper = [str(found.erlang / "epmd"), "-port", environment["ERL_EPMD_PORT"], "-address", LOOPBACK]
        return [
            Program(  # it keeps nothing, and takes its time over SIGTERM
                name=self.MAPPER,
                arguments=mapper,
                folder=self.home,
                environment=environment,
                stop_signal=signal.SIGKILL,
            ),
            Program(name=self.name, arguments=[str(found.server)], folder=self.home, environment=environment),
        ]

    @property
    def administrator(self) -> dict[str, str]:
        """The administrator as a definition, which gives an existing one the password that counts now."""
        return {"name": ADMIN, "password": self.password, "tags": "administrator"}

    def configuration(self) -> str:
        """The content of rabbitmq.conf. Because it names definitions, the well-known guest is never made."""
        lines = [
            f"listeners.tcp.1 = {LOOPBACK}:{self.ports.take(self.name)}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {self.ports.take(self.MANAGEMENT)}",
            f"load_definitions = {self.home / 'definitions.json'}",
            "auth_mechanisms.1 = PLAIN",
            "auth_mechanisms.2 = AMQPLAIN",
            "disk_free_limit.absolute = 200MB",
            f"raft.wal_max_size_bytes = {64 * 2**20}",  # what quorum queues keep in memory; usually eight times as much
            "log.console = true",
            "log.console.level = info",
            "log.file = false",
        ]
        if not self.durable:
            lines.append("collect_statistics_interval = 1000")
        return "\n".join([*lines, ""])

    def environment(self, found: Installation) -> dict[str, str]:
        """The environment of every program of this broker."""
        libraries = {"LD_LIBRARY_PATH": found.libraries} if found.libraries else {}
        return libraries | {
            "PATH": f"{found.erlang}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.home),  # Erlang keeps its cookie there
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self.ports.take(self.MAPPER)),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RUNNING_UNDER_SYSTEMD": "true",  # the start script becomes the broker instead of waiting beside it
            "RABBITMQ_NODENAME": self.node_name,
            "RABBITMQ_DIST_PORT": str(self.ports.take(self.DISTRIBUTION)),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u",  # several brokers may share the processors
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "environment.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(self.home / "conf.d"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.home / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.home / "generated"),
            "RABBITMQ_SCHEMA_DIR": str(self.home / "schema"),
            "RABBITMQ_PID_FILE": str(self.home / "pid"),
        }

    def ready(self) -> bool:
        """Whether its management answers and its AMQP port is open, which it opens last."""
        try:
            answer = Broker(self.management, seconds=5).ask("GET", "overview")
            return answer.ok and answers(self.ports.of(self.name))
        except Trouble:
            return False


def installed() -> Installation | None:
    """The RabbitMQ this machine has; None when it has none.

    Debian's ``rabbitmq-server`` on the PATH insists on root or its own account, so the script below lib is preferred.
    """
    scripts = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    on_path = shutil.which("rabbitmq-server")
    server = scripts[-1] if scripts else Path(on_path).resolve() if on_path else None
    erlang = shutil.which("erl")
    if not server or not erlang:
        return None
    mapper = shutil.which("epmd") or shutil.which("epmd", path=str(Path(erlang).resolve().parent))
    return Installation(server, Path(mapper or erlang).parent)


def fetched(fallback: Path) -> Installation:
    """Debian's RabbitMQ, unpacked into the cache."""
    tree = unpacked(fallback)
    scripts = sorted(tree.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"))
    if not scripts:
        raise Trouble(f"{tree} holds no RabbitMQ. Remove that folder and try again. {OTHER_WAY}")
    libraries = ":".join(str(folder) for folder in (*tree.glob("usr/lib/*-linux-gnu*"), *tree.glob("lib/*-linux-gnu*")))
    return Installation(scripts[-1], tree / "usr/lib/erlang/bin", libraries)
