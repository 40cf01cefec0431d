"""Where a cluster keeps what it knows: ``.oms/`` in the checkout, or the folder that OMS_STATE names."""

import os
from dataclasses import dataclass
from pathlib import Path

from cli.files import make_folder
from cli.trouble import Trouble

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class State:
    """The folder of one cluster; two folders are two clusters that know nothing of each other."""

    folder: Path

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.folder / "logs"

    @property
    def environments(self) -> Path:
        """One file per service, with everything it needs to know about this cluster."""
        return self.folder / "env"

    @property
    def secrets(self) -> Path:
        """One file per password."""
        return self.folder / "secrets"

    @property
    def tls(self) -> Path:
        """The cluster's own certificate."""
        return self.folder / "tls"

    @property
    def authority(self) -> Path:
        """What a client must trust who speaks HTTPS with the cluster: ``curl --cacert``."""
        return self.tls / "ca.pem"

    @property
    def ports(self) -> Path:
        """Which port belongs to what."""
        return self.folder / "ports.json"

    @property
    def mailbox(self) -> Path:
        """The simulated e-mails and text messages."""
        return self.folder / "mailbox"

    def make(self) -> None:
        """Make the folder and those in it."""
        make_folder(self.folder, 0o755)
        for folder in (self.logs, self.environments, self.secrets, self.mailbox):
            make_folder(folder)


def current() -> State:
    """The state folder this command is about."""
    named = os.environ.get("OMS_STATE")
    folder = Path(named).absolute() if named else CHECKOUT / ".oms"
    if folder.exists() and folder.stat().st_uid != os.geteuid():
        raise Trouble(f"{folder} belongs to another user. Run oms as that user, or set OMS_STATE to a new folder.")
    return State(folder)
