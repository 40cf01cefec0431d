"""Virtual hosts of a test's own: empty, with quorum queues by default, gone after the test."""

import secrets
from dataclasses import dataclass, field

from cli.broker import Broker
from cli.servers.endpoints import Endpoints, Management, with_vhost


@dataclass(frozen=True)
class Vhost:
    """One virtual host and the ways into it as an administrator."""

    name: str
    amqp_url: str
    broker: Broker
    """The management API of the whole broker."""

    @property
    def management(self) -> Management:
        """The management API's address and credentials."""
        return self.broker.management


@dataclass
class Vhosts:
    """The broker of a test run, and the virtual hosts made there for one test."""

    servers: Endpoints
    broker: Broker = field(init=False)
    made: list[Vhost] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = Broker(self.servers.management)

    @property
    def amqp_url(self) -> str:
        """The administrator's AMQP URL at the virtual host all tests share."""
        return self.servers.amqp_url

    @property
    def management(self) -> Management:
        """The management API's address and credentials."""
        return self.servers.management

    def make_vhost(self) -> Vhost:
        """A new, empty virtual host."""
        name = f"test-{secrets.token_hex(6)}"
        self.broker.make_vhost(name)
        self.made.append(Vhost(name, with_vhost(self.amqp_url, name), self.broker))
        return self.made[-1]

    def remove(self) -> None:
        """Remove what :meth:`make_vhost` made; clients still connected there are cut off."""
        for vhost in self.made:
            self.broker.delete("vhosts", vhost.name)
        self.made.clear()
