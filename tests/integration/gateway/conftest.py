"""Doors to knock at, each in a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.gateway.door import Door

ECHO = ["-m", "nameko", "run", "tests.integration.gateway.echo_service:EchoService", "--config"]
OpenDoor = Callable[..., Door]


@pytest.fixture(scope="module")
def open_door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenDoor]:
    """``open_door(HTTP_BODY_SECONDS=1)`` starts an echo service with these settings, ended after the module."""
    with ExitStack() as doors:

        def start(**settings: Any) -> Door:
            folder = tmp_path_factory.mktemp("door")
            mood = folder / "mood"
            mood.touch()
            return doors.enter_context(
                Door(folder, "echo", ECHO, **{"MOOD_FILE": str(mood), "ECHO_PAUSE_SECONDS": 1, **settings})
            )

        yield start


@pytest.fixture(scope="module")
def door(open_door: OpenDoor) -> Door:
    """An echo service that loses patience after a second."""
    return open_door(HTTP_HEADER_SECONDS=1, HTTP_BODY_SECONDS=1, HTTP_KEEPALIVE_SECONDS=1.5)


@pytest.fixture
def mood(door: Door) -> Iterator[Path]:
    """The file that says how the echo service feels."""
    file = door.log.with_name("mood")
    yield file
    file.write_text("")
