"""A caller of RPC methods for tests: speaks Nameko's wire directly, with a deadline, and shows the raw answer."""

from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from services.chassis import wire


class Calls:
    """``with Calls(amqp_url, asker="gateway") as calls: calls("orders.get_order", "...")``.

    ``asker`` names a service that the target may answer; ``context`` goes along as Nameko headers.
    """

    def __init__(self, amqp_url: str, asker: str, context: Mapping[str, str] | None = None) -> None:
        self.connection = Connection(amqp_url)
        self.reply_to = f"reply.{asker}.{uuid4()}"
        self.headers = {f"nameko.{key}": value for key, value in (context or {}).items()}
        self.answers: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.channel = self.connection.channel()
        exchange = Exchange("nameko-rpc", type="topic", no_declare=True)
        queue = Queue(f"test-{uuid4()}", exchange, routing_key=self.reply_to, exclusive=True, durable=False)
        self.consumer = Consumer(self.channel, [queue], on_message=self._take, no_ack=True)
        self.consumer.consume()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.connection.release()

    def _take(self, message: Any) -> None:
        self.answers[message.properties["correlation_id"]] = wire.decode(message.body)

    def __call__(self, method: str, *args: Any, seconds: float = 8, **kwargs: Any) -> Any:
        """The whole answer, ``{"result", "error"}``; TimeoutError when none came in time."""
        return self.ask(method, {"args": args, "kwargs": kwargs}, seconds)

    def ask(self, method: str, body: object, seconds: float = 8, **properties: Any) -> Any:
        """The whole answer to any body at all; TimeoutError when none came in time."""
        return self.wait(self.begin(method, body, **properties), seconds)

    def begin(self, method: str, body: object, **properties: Any) -> str:
        """Send a call, and get what to :meth:`wait` for."""
        call = str(uuid4())
        self.send(method, body, correlation_id=call, **properties)
        return call

    def wait(self, call: str, seconds: float = 8) -> Any:
        """The answer to a call that was begun."""
        end = monotonic() + seconds
        while call not in self.answers:
            left = end - monotonic()
            if left <= 0:
                raise TimeoutError(call)
            with suppress(TimeoutError):
                self.connection.drain_events(timeout=left)
        return self.answers.pop(call)

    def send(self, method: str, body: object, **properties: Any) -> None:
        """Only send; ``properties`` and ``headers`` may be anything."""
        headers = self.headers | properties.pop("headers", {})
        Producer(self.channel).publish(
            body if isinstance(body, bytes) else wire.encode(body),
            exchange="nameko-rpc",
            routing_key=method,
            content_type="application/json",
            content_encoding="utf-8",
            headers=headers,
            **{"reply_to": self.reply_to, **properties},
        )
