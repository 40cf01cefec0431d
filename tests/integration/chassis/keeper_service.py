"""A service that keeps copies in Redis and does nothing else."""

from uuid import uuid4

from services.chassis.cache import Cache
from services.chassis.http import Request, Response, http, reply
from services.chassis.probes import Probes


class KeeperService:
    """Says the same for as long as Redis remembers it."""

    name = "keeper"

    probes = Probes()
    cache = Cache()

    @http("GET", "/kept/<string:key>")
    def show(self, request: Request, key: str) -> Response:
        """What was loaded first under that key."""
        return reply(200, {"kept": self.cache.get_or_load(key, 60, lambda: str(uuid4()))})
