"""Telling what goes on while it goes on: one line per thing done, with the time since the command began."""

import threading
import time


class Progress:
    """Prints lines with the seconds since it was made; several threads may use it."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.lock = threading.Lock()

    def tell(self, text: str) -> None:
        """Print one line."""
        with self.lock:
            print(f"{self.seconds:6.1f} s  {text}", flush=True)

    @property
    def seconds(self) -> float:
        """How long it took so far."""
        return time.monotonic() - self.began
