"""Something to do again and again, at a distance that is a setting: ``@timer(setting="PRUNE_SECONDS")``."""

from collections.abc import Callable
from typing import Any

from nameko.timer import Timer as StockTimer

from services.chassis.config import positive, read


class Timer(StockTimer):
    """Nameko's timer with its distance from the configuration. What a round raises is logged and the next one comes."""

    def __init__(self, setting: str) -> None:
        super().__init__(interval=None)
        self.setting = setting

    def setup(self) -> None:
        """Read the distance in seconds."""
        self.interval = read(self.container.config, self.setting, positive)


timer: Callable[..., Any] = Timer.decorator
