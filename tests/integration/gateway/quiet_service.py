"""A service that has probes and nothing else to say over HTTP."""

from typing import Any

from nameko.timer import timer

from services.chassis.probes import Probes


class QuietService:
    """Does nothing, every hour."""

    name = "quiet"

    probes = Probes()

    @timer(interval=3600)
    def pass_time(self) -> Any:
        """Nothing."""
