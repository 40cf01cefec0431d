"""Answering calls, in Nameko's words and on Nameko's wire: ``@rpc`` on a method. ``rpc_proxy`` has the calling.

A call runs at most once: one that the broker delivers again, because the process that had it died, is answered with
``Unavailable`` instead of being run again. One whose caller has left is not run at all.
"""

from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, Final

from kombu.entity import Queue
from nameko.exceptions import ContainerBeingKilled, IncorrectSignature
from nameko.rpc import Rpc as StockRpc
from nameko.rpc import RpcConsumer as StockRpcConsumer

from services.chassis import wire
from services.chassis.broker import RPC_EXCHANGE, Message, TransientPublisher
from services.chassis.consumer import QueueConsumer, RawMessage
from services.chassis.container import EXPIRES_AT
from services.chassis.errors import InvalidInput, NotFound, ServiceError, TimedOut, Unavailable
from services.chassis.lateness import Lateness
from services.chassis.logs import get_logger
from services.chassis.metrics import RPC_SERVER_SECONDS
from services.chassis.redelivery import Failure, Redelivery
from services.chassis.rpc_proxy import BUDGET, LEFT_AT, TRAVELS

log = get_logger(__name__)

LONGEST_HEADER: Final = 4096
REPLY_SECONDS: Final = 2.0
INTERNAL: Final = {"exc_type": "InternalError", "exc_path": "", "exc_args": [], "value": "internal error"}
"""All that a caller learns of a bug; the log of the service that has it says the rest."""


class RpcConsumer(StockRpcConsumer):
    """Takes the calls from the queue ``rpc-<service>``, which the topology declared, and sends the answers."""

    queue_consumer = QueueConsumer()
    publisher = TransientPublisher()
    redelivery = Redelivery()

    def __init__(self) -> None:
        super().__init__()
        self._methods: dict[str, Any] = {}

    def register_provider(self, provider: Any) -> None:
        """Note the method for good: calls that came before the service stopped are answered while it stops."""
        super().register_provider(provider)
        self._methods[f"{self.container.service_name}.{provider.method_name}"] = provider

    def setup(self) -> None:
        """Register for the queue, once for all methods."""
        if self.queue is None:
            self.queue: Any = Queue(f"rpc-{self.container.service_name}", no_declare=True)
            self.lateness = Lateness()
            self.queue_consumer.register_provider(self)
            self._registered = True

    def handle_delivery(self, message: RawMessage) -> None:
        """Run the call in a worker, or answer why not; never raises."""
        try:
            if not isinstance(message.properties.get("reply_to"), str):
                self._bury(message)
                return
            self._run(message)
        except ContainerBeingKilled:
            self.queue_consumer.requeue_message(message)
        except Exception as error:  # a call must not be able to end the process
            if not isinstance(error, ServiceError):
                log.exception("call_not_run")
            self.answer(message, None, None, None, (type(error), error, error.__traceback__))

    def _run(self, message: RawMessage) -> None:
        received: float = self.container.received_at()
        late = self.lateness.of(message.properties["reply_to"], message.headers.get(LEFT_AT))
        if message.delivery_info.get("redelivered"):
            raise Unavailable(
                "interrupted", "The service was interrupted and may have done it; look before you repeat."
            )
        args, kwargs = _read_call(message)
        routing_key = message.delivery_info["routing_key"]
        entrypoint = self._methods.get(routing_key)
        if entrypoint is None:
            raise NotFound("unknown_method", f"There is no method {routing_key[:100]}.")
        try:
            entrypoint.check_signature(args, kwargs)
        except IncorrectSignature as error:
            raise InvalidInput("malformed_call", "The arguments are not those of the method.") from error
        context: dict[str, Any] = _context(message.headers)
        context[EXPIRES_AT] = min(received, monotonic() - late) + _budget(message.headers)
        answer = partial(self.answer, message, received)
        self.container.spawn_worker(entrypoint, args, kwargs, context_data=context, handle_result=answer)

    def answer(self, message: RawMessage, started: float | None, _worker: Any, result: Any, exc_info: Any) -> Any:
        """Send the result or the error to whoever asked, and acknowledge the call."""
        body = _encode_answer(result, exc_info[1] if exc_info else None)
        reply = Message(
            exchange=RPC_EXCHANGE,
            routing_key=message.properties["reply_to"],
            body=body,
            properties={"correlation_id": str(message.properties.get("correlation_id", ""))},
        )
        try:
            self.publisher.publish(reply, REPLY_SECONDS)
        except Unavailable:
            log.warning("reply_not_sent", method=message.delivery_info.get("routing_key"))
        self.queue_consumer.ack_message(message)
        if started is not None:
            outcome = exc_info[0].__name__ if exc_info else "ok"
            method = message.delivery_info["routing_key"]
            RPC_SERVER_SECONDS.labels(method, outcome).observe(monotonic() - started)
        return result, exc_info

    def _bury(self, message: RawMessage) -> None:
        reason = "a call without reply_to: nobody would learn the answer"
        queue = f"rpc-{self.container.service_name}"
        self.redelivery.bury(message, Failure(queue, "rpc", 1, 1, "malformed", reason))


def _read_call(message: RawMessage) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = wire.decode(message.body)
        args, kwargs = call["args"], call["kwargs"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InvalidInput("malformed_call", "A call is a JSON object with args and kwargs.") from None
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InvalidInput("malformed_call", "A call has a list of args and an object of kwargs.")
    return args, kwargs


def _context(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller's context says and may say; every other header is ignored."""
    found = {key: headers.get(f"nameko.{key}") for key in TRAVELS}
    return {key: value for key, value in found.items() if isinstance(value, str) and len(value) <= LONGEST_HEADER}


def _budget(headers: Mapping[str, Any]) -> float:
    milliseconds = headers.get(BUDGET)
    return milliseconds / 1000 if isinstance(milliseconds, int) else float("inf")


def _encode_answer(result: Any, error: BaseException | None) -> bytes:
    try:
        return wire.encode({"result": result, "error": None if error is None else _described(error)})
    except (TypeError, ValueError, RecursionError) as problem:
        log.exception("answer_not_encodable", exc_info=problem)
        return wire.encode({"result": None, "error": INTERNAL})


def _described(error: BaseException) -> Mapping[str, Any]:
    """The error as Nameko's callers rebuild it; unlike Nameko's own, numbers in it stay numbers."""
    if not isinstance(error, ServiceError):
        return INTERNAL
    if isinstance(error, TimedOut):
        error = Unavailable(error.code, error.detail, error.extra)
    kind = type(error)
    path = f"{kind.__module__}.{kind.__name__}"
    return {"exc_type": kind.__name__, "exc_path": path, "exc_args": list(error.args), "value": str(error)}


class Rpc(StockRpc):
    """Nameko's RPC entrypoint, consuming as this chassis does."""

    rpc_consumer = RpcConsumer()


rpc: Callable[..., Any] = Rpc.decorator
