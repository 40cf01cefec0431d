"""A TCP line between one client and one server, whose faults are switched while it is in use.

Every connection is carried by four small tasks on an event loop in a thread of the line's own: for each direction one
takes bytes in and one gives them on. What a fault holds back is neither lost nor reordered; it goes on when the line
heals, as TCP sends again what a network has dropped.
"""

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from threading import Thread
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from cli.servers.ports import LOOPBACK

Result = TypeVar("Result")

CHUNK_BYTES: Final = 16 * 1024
QUEUED_CHUNKS: Final = 4
"""What a direction that is held back takes in before its sender has to wait."""

STEPS_PER_SECOND: Final = 10
"""How evenly a slow direction gives on what it has."""

SWITCH_SECONDS: Final = 10
LINGER_FOR_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Way:
    """How bytes travel in one direction; what they are counted for, each connection counts from the fault's begin."""

    delay_seconds: float = 0.0
    bytes_per_second: int = 0
    silent_after: int | None = None
    cut_after: int | None = None


@dataclass(frozen=True)
class Fault:
    """What is wrong with a line: ``up`` to the server, ``down`` to the client, or that no connection lives on it."""

    up: Way = Way()
    down: Way = Way()
    resets: bool = False


NONE: Final = Fault()
SILENT: Final = Way(silent_after=0)
RESET: Final = Fault(resets=True)
SILENT_UP: Final = Fault(up=SILENT)
SILENT_DOWN: Final = Fault(down=SILENT)
BLACK_HOLE: Final = Fault(up=SILENT, down=SILENT)
LATE: Final = Fault(down=Way(delay_seconds=2.0))
TRICKLE: Final = Fault(up=Way(bytes_per_second=1000), down=Way(bytes_per_second=1000))


class Line:
    """Listens on a port of its own and carries every connection to the server's port."""

    def __init__(self, server_port: int, host: str = LOOPBACK) -> None:
        self.server = (host, server_port)
        self.fault = NONE
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self._listener.settimeout(0)
        self.port: int = self._listener.getsockname()[1]
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Condition()
        self._thread = Thread(target=self._loop.run_forever, name=f"line to {server_port}", daemon=True)
        self._thread.start()
        self._accepting = asyncio.run_coroutine_threadsafe(self._accept(), self._loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def url(self, url: str) -> str:
        """The same URL by way of this line."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{login}{at}{LOOPBACK}:{self.port}"))

    @property
    def open_connections(self) -> int:
        """How many connections it carries."""
        return len(self._connections)

    @property
    def silenced(self) -> int:
        """How many connections a silence keeps from saying more to their client."""
        return sum(each.is_silent(DOWN) for each in list(self._connections))

    def hurt(self, fault: Fault) -> None:
        """From now on the line has this fault, for the connections it carries and for new ones."""
        self._do(self._switch(fault))

    def heal(self) -> None:
        """What was held back goes on, and all is well."""
        self.hurt(NONE)

    def reset(self) -> None:
        """Every present connection is reset; new ones are well."""
        self._do(self._reset())

    def forget(self) -> None:
        """Nobody ever hears of the present connections again, not even that they end; new ones are well.

        So a firewall does that has lost its memory.
        """
        self._do(self._forget())

    def close(self) -> None:
        """Reset every connection and listen no more."""
        self._accepting.cancel()
        self._do(self._reset())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SWITCH_SECONDS)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listener)
            connection = _Connection(self, client)
            self._connections[connection] = self._loop.create_task(self._carry(connection))

    async def _carry(self, connection: "_Connection") -> None:
        try:
            await connection.carry()
        finally:
            del self._connections[connection]

    async def _switch(self, fault: Fault) -> None:
        async with self._changed:
            self.fault = fault
            for connection in self._connections:
                connection.carried = {UP: 0, DOWN: 0}
            self._changed.notify_all()
        if fault.resets:
            await self._reset()

    async def _forget(self) -> None:
        for connection in self._connections:
            connection.own_fault = BLACK_HOLE
        await self._switch(NONE)

    async def _reset(self) -> None:
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def connect(self, end: socket.socket) -> None:
        """Connect this end of a new connection to the server."""
        await self._loop.sock_connect(end, self.server)

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until a change of the fault makes it so."""
        if not is_so():
            async with self._changed:
                await self._changed.wait_for(is_so)


UP: Final = "up"
DOWN: Final = "down"


class _Connection:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(self, line: Line, client: socket.socket) -> None:
        self.line = line
        self.client = client
        self.server = socket.socket()
        self.own_fault: Fault | None = None
        self.carried = {UP: 0, DOWN: 0}

    async def carry(self) -> None:
        """Carry bytes until both sides have ended; a reset of either, or being cancelled, resets both."""
        orderly = False
        try:
            await self._connect()
            async with asyncio.TaskGroup() as tasks:
                for source, target, direction in ((self.client, self.server, UP), (self.server, self.client, DOWN)):
                    held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED_CHUNKS)
                    tasks.create_task(self._take(source, held))
                    tasks.create_task(self._give(held, target, direction))
            orderly = True
        except* OSError:
            pass
        finally:
            for end in (self.client, self.server):
                if not orderly:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_FOR_RESET)
                end.close()

    async def _connect(self) -> None:
        for end in (self.client, self.server):
            end.settimeout(0)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.line.fault.resets:
            raise ConnectionResetError
        await self._passable(UP)
        await self.line.connect(self.server)

    def _way(self, direction: str) -> Way:
        way: Way = getattr(self.own_fault or self.line.fault, direction)
        return way

    def is_silent(self, direction: str) -> bool:
        """Whether nothing more gets through in this direction."""
        after = self._way(direction).silent_after
        return after is not None and self.carried[direction] >= after

    async def _passable(self, direction: str) -> Way:
        await self.line.until(lambda: not self.is_silent(direction))
        return self._way(direction)

    @staticmethod
    async def _take(source: socket.socket, held: "asyncio.Queue[tuple[float, bytes]]") -> None:
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            data = await loop.sock_recv(source, CHUNK_BYTES)
            await held.put((loop.time(), data))

    async def _give(self, held: "asyncio.Queue[tuple[float, bytes]]", target: socket.socket, direction: str) -> None:
        loop = asyncio.get_running_loop()
        while True:
            taken_at, data = await held.get()
            way = await self._passable(direction)
            await asyncio.sleep(taken_at + way.delay_seconds - loop.time())
            if not data:
                await self._passable(direction)
                target.shutdown(socket.SHUT_WR)
                return
            while data:
                data = await self._give_some(data, target, direction)

    async def _give_some(self, data: bytes, target: socket.socket, direction: str) -> bytes:
        """What is left after giving on as much as may pass at once."""
        way = await self._passable(direction)
        most = max(1, way.bytes_per_second // STEPS_PER_SECOND) if way.bytes_per_second else len(data)
        limits = [limit for limit in (way.silent_after, way.cut_after) if limit is not None]
        piece = data[: min([most, *(limit - self.carried[direction] for limit in limits)])]
        await asyncio.get_running_loop().sock_sendall(target, piece)
        self.carried[direction] += len(piece)
        if way.cut_after is not None and self.carried[direction] >= way.cut_after:
            raise ConnectionAbortedError
        if way.bytes_per_second:
            await asyncio.sleep(len(piece) / way.bytes_per_second)
        return data[len(piece) :]
