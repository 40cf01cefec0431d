"""Whether a broker that lacks memory or disk lets a connection publish (RabbitMQ's ``connection.blocked``).

It says so after the first message that comes meanwhile, on that connection, and reads nothing more there until its
alarm ends. Whoever took that for silence and connected again would press one message after the other on a broker in
need, and all that waits in dropped connections would come in once more when it recovers. So the connection is kept.
"""

from amqp import Connection as AmqpConnection


class Blocked(Exception):
    """Nothing may be published on this connection for now."""


class Blockade:
    """What the broker said last about publishing on one connection."""

    def __init__(self) -> None:
        self.stands = False

    def watch(self, connection: AmqpConnection) -> AmqpConnection:
        """The new connection, listened to from now on."""
        self.stands = False
        connection.on_blocked = self._begin
        connection.on_unblocked = self._end
        return connection

    def check(self) -> None:
        """Raise Blocked while nothing may be published."""
        if self.stands:
            raise Blocked

    def _begin(self, _reason: str) -> None:
        self.stands = True

    def _end(self) -> None:
        self.stands = False
