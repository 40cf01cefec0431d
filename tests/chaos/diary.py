"""What is printed while it happens, each line with its second, and kept in a file beside the logs."""

import sys
import time
from pathlib import Path
from threading import Lock


class Diary:
    """Tells lines to whoever looks on, and remembers those that tell of something wrong."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.began = time.monotonic()
        self.wrongs: list[str] = []
        self._lock = Lock()

    def begin(self) -> None:
        """The seconds count from now on."""
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How many since the beginning."""
        return time.monotonic() - self.began

    def note(self, text: str) -> None:
        """A line with the second."""
        self.tell(f"{self.seconds:7.1f} s  {text}")

    def wrong(self, text: str) -> None:
        """A line about what must not happen, which decides the verdict."""
        self.wrongs.append(f"at {self.seconds:.1f} s: {text}")
        self.note(f"WRONG: {text}")

    def tell(self, text: str = "") -> None:
        """A line as it is."""
        with self._lock, self.file.open("a") as file:
            file.write(text + "\n")
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
