"""Server-sent events (WHATWG HTML, section 9.2): the lines of a stream, and going on after a stream broke off."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import requests

from oms_client.errors import NoAnswer
from oms_client.retries import Clock, Retries
from oms_client.transport import LOST

OVER: Final = 204
"""The status that says: nothing more will come, do not ask again."""


@dataclass
class Reader:
    """Reads the events of one stream after the other, and knows where to go on."""

    last_id: str = ""
    retry_seconds: float = 1.0

    def read(self, chunks: Iterable[bytes]) -> Iterator[str]:
        """The data of each event that is complete."""
        self._data, self._id = list[str](), self.last_id
        for line in lines(chunks):
            if line:
                self._take(*line.partition(":")[::2])
                continue
            self.last_id = self._id
            if self._data:
                yield "\n".join(self._data)
                self._data = []

    def _take(self, name: str, value: str) -> None:
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_seconds = int(value) / 1000


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines that ended with CR, LF or both."""
    line, after_cr = bytearray(), False
    for byte in (bytes([number]) for chunk in chunks for number in chunk):
        if byte in b"\r\n" and not (after_cr and byte == b"\n"):
            yield line.decode(errors="replace").removeprefix("\ufeff")
            line.clear()
        elif byte not in b"\r\n":
            line += byte
        after_cr = byte == b"\r"


def follow(
    connect: Callable[[str], requests.Response], reader: Reader, retries: Retries, clock: Clock
) -> Iterator[str]:
    """The data of every event until the server says that it was the last, over as many streams as that takes.

    Raises NoAnswer when one stream after the other breaks off without having brought anything.
    """
    broken = 0
    while True:
        failure = None
        with connect(reader.last_id) as stream:
            if stream.status_code == OVER:
                return
            try:
                for event in reader.read(stream.iter_content(1)):
                    broken = 0
                    yield event
            except LOST as error:
                failure = f"The event stream broke off ({type(error).__name__})."
        broken = broken + 1 if failure else 0
        if failure and broken >= retries.attempts:
            raise NoAnswer(failure)
        clock.sleep(max(reader.retry_seconds, retries.pause(broken) if broken else 0.0))
