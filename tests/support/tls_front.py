"""TLS in front of a server that cannot speak it, as the proxy of a managed server does.

The PostgreSQL and Valkey that come as wheels are built without TLS; their clients are the same for all that.
"""

import asyncio
import ssl
from contextlib import suppress
from threading import Thread
from types import TracebackType
from typing import Final, Self

from cli.servers.ports import LOOPBACK
from tests.support.certificates import Papers

ASKED: Final = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's client asks in clear whether it may begin TLS."""


class TlsFront:
    """Listens with TLS on a port of its own and carries what it hears to the server's port.

    ``asked`` for PostgreSQL, where the client asks before it begins.
    """

    def __init__(self, server_port: int, papers: Papers, *, asked: bool = False) -> None:
        self.server_port = server_port
        self.asked = asked
        self.carried = 0
        """How many connections have come through their handshake."""
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(papers.certificate, papers.key)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"TLS before {server_port}", daemon=True)
        self._thread.start()
        opened = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.port: int = opened.result(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._carry, LOOPBACK, 0, ssl=None if self.asked else self._context)
        return int(self._server.sockets[0].getsockname()[1])

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self.asked:
                assert await reader.readexactly(len(ASKED)) == ASKED
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
            self.carried += 1
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.server_port)
            await asyncio.gather(pour(reader, server_writer), pour(server_reader, writer))

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Give on what comes until it ends, and then say so."""
    with suppress(OSError):
        while some := await source.read(65536):
            target.write(some)
            await target.drain()
    target.close()
