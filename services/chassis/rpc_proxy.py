"""Calling another service, in Nameko's words and on Nameko's wire: ``RpcProxy("orders", "get_order")``.

A call either gets its answer, or one of the six error kinds, or ``Unavailable`` by its deadline; it never hangs. Its
message lives no longer than that, so nobody works for a caller who has left; a nested call gets what is left of its
caller's time.
"""

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final
from uuid import uuid4
from weakref import WeakValueDictionary

import eventlet
from eventlet.event import Event as Signal
from kombu.entity import Exchange, Queue
from nameko.exceptions import deserialize
from nameko.rpc import ReplyListener as StockReplyListener
from nameko.rpc import RpcProxy as StockRpcProxy

from services.chassis import wire
from services.chassis.auth import AUTH_TOKEN
from services.chassis.broker import RPC_EXCHANGE, Message, TransientPublisher, seconds_left
from services.chassis.consumer import QueueConsumer, RawMessage
from services.chassis.container import EXPIRES_AT
from services.chassis.errors import ServiceError, TimedOut, Unavailable
from services.chassis.metrics import RPC_CLIENT_SECONDS, timed
from services.chassis.provider import Provider
from services.chassis.tracing import CORRELATION, TRACEPARENT

TRAVELS: Final = (AUTH_TOKEN, CORRELATION, TRACEPARENT)
"""What of a worker's context a call takes along, each as Nameko's header ``nameko.<key>``."""

BUDGET: Final = "nameko.budget_ms"
"""How long the caller waits: a span and no time of day, since clocks differ."""

LEFT_AT: Final = "nameko.left_at_ms"
"""When the call left, by the caller's own clock: only the differences between its calls mean anything."""

REPLY_QUEUE_TTL_MS: Final = 300_000


class ReplyListener(StockReplyListener):
    """Takes the answers from a queue of this process, ``rpc.reply-<service>-<uuid>``: the only one it declares."""

    queue_consumer = QueueConsumer()
    declares_its_queue = True
    handles_inline = True
    needs_no_ack = True

    def __init__(self) -> None:
        super().__init__()
        # weak: an answer that nobody asks for any more is not waited for
        self._reply_events: WeakValueDictionary[str, Signal] = WeakValueDictionary()

    def setup(self) -> None:
        """Choose a queue, once for all proxies."""
        self.choose_queue()
        self.queue_consumer.required_exchanges.add(RPC_EXCHANGE)
        self.queue_consumer.register_provider(self)

    def choose_queue(self) -> None:
        """A queue that nobody has yet; the routing key says whose it is, so that only those asked may write to it.

        It lives on one node of the broker. When that is away the broker keeps the name for when it returns, so whoever
        cannot wait for that chooses again.
        """
        service, unique = self.container.service_name, uuid4()
        self.routing_key = f"reply.{service}.{unique}"
        arguments = {"x-expires": REPLY_QUEUE_TTL_MS, "x-queue-type": "classic"}
        exchange = Exchange(RPC_EXCHANGE, type="topic", no_declare=True)
        self.queue = Queue(
            f"rpc.reply-{service}-{unique}",
            exchange,
            routing_key=self.routing_key,
            queue_arguments=arguments,
        )

    def handle_delivery(self, message: RawMessage) -> None:
        """Wake whoever waits for this answer; one that comes too late is dropped."""
        waiting = self._reply_events.pop(str(message.properties.get("correlation_id")), None)
        if waiting is None:
            return
        try:
            answer = wire.decode(message.body)
            error, result = answer["error"], answer["result"]
            refusal = deserialize(error) if error else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            waiting.send_exception(Unavailable("malformed_reply", "The service's answer could not be read."))
            return
        waiting.send((refusal, result))

    def expect(self, correlation_id: str) -> Signal:
        """What will receive the answer to this call."""
        signal: Signal = self.get_reply_event(correlation_id)
        return signal

    def forget(self, correlation_id: str) -> None:
        """Nobody waits for this answer any more."""
        self._reply_events.pop(correlation_id, None)

    def on_disconnected(self) -> None:
        """Answers on their way are lost with the connection: tell everybody who waits."""
        lost = list(self._reply_events.values())
        self._reply_events.clear()
        for waiting in lost:
            waiting.send_exception(
                Unavailable("broker_unavailable", "The message broker went away; try again.", {"retry_after": 2})
            )


class Reply:
    """The answer to a call that is under way."""

    def __init__(self, call: "MethodProxy", correlation_id: str, signal: Signal, deadline: float) -> None:
        self._call = call
        self._correlation_id = correlation_id
        self._signal = signal
        self._deadline = deadline

    def result(self) -> Any:
        """What the method returned. Raises one of the six kinds; Unavailable when no answer came in time."""
        with timed(RPC_CLIENT_SECONDS, self._call.name):
            refusal, result = self._wait()
            if refusal:
                raise refusal
            return result

    def _wait(self) -> Any:
        too_late = eventlet.Timeout(seconds_left(self._deadline))
        try:
            return self._signal.wait()
        except eventlet.Timeout as timeout:
            if timeout is not too_late:
                raise
            raise self._call.no_answer() from None
        finally:
            too_late.cancel()
            self._call.listener.forget(self._correlation_id)


class MethodProxy:
    """One remote method: call it for the result, ``call_async`` it for a :class:`Reply`."""

    def __init__(self, proxy: "RpcProxy", context: Mapping[str, Any], method: str) -> None:
        self.name = f"{proxy.target_service}.{method}"
        self.listener: ReplyListener = proxy.rpc_reply_listener
        self._publisher: TransientPublisher = proxy.publisher
        self._seconds: float = proxy.container.config["RPC_DEADLINE_SECONDS"]
        self._context = context

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The method's result, by the deadline."""
        return self.call_async(*args, **kwargs).result()

    def call_async(self, *args: Any, **kwargs: Any) -> Reply:
        """Send the call now; ask for its result later."""
        left_at = monotonic()
        deadline = min(left_at + self._seconds, self._context.get(EXPIRES_AT, float("inf")))
        milliseconds = int(seconds_left(deadline) * 1000)
        if milliseconds <= 0:
            raise TimedOut("deadline_passed", f"No time was left to ask {self.name}.", {"retry_after": 1})
        correlation_id = str(uuid4())
        headers = {f"nameko.{key}": self._context[key] for key in TRAVELS if self._context.get(key)}
        call = Message(
            exchange=RPC_EXCHANGE,
            routing_key=self.name,
            body=wire.encode({"args": args, "kwargs": kwargs}),
            headers=headers | {BUDGET: milliseconds, LEFT_AT: int(left_at * 1000)},
            properties={
                "reply_to": self.listener.routing_key,
                "correlation_id": correlation_id,
                "expiration": str(milliseconds),
            },
        )
        signal = self.listener.expect(correlation_id)
        try:
            self._publisher.publish(call, seconds_left(deadline))
        except BaseException:
            self.listener.forget(correlation_id)
            raise
        return Reply(self, correlation_id, signal, deadline)

    def no_answer(self) -> ServiceError:
        """Who is to blame for no answer: the service, or a broker that is silent itself."""
        if self._publisher.broker_answers():
            return TimedOut("timed_out", f"{self.name} did not answer in time.", {"retry_after": 1})
        return Unavailable("broker_unavailable", "The message broker does not answer; try again.", {"retry_after": 2})


class ServiceProxy:
    """The methods of another service that this one said it would call."""

    def __init__(self, proxy: "RpcProxy", context: Mapping[str, Any]) -> None:
        self._proxy = proxy
        self._context = context

    def __getattr__(self, method: str) -> MethodProxy:
        if method not in self._proxy.methods:
            raise AttributeError(f"{method} is not among the methods named in RpcProxy({self._proxy.target_service!r})")
        return MethodProxy(self._proxy, self._context, method)


class RpcProxy(Provider[ServiceProxy], StockRpcProxy):
    """Injects what calls the named ``methods`` of ``target_service``; the topology allows these and no others."""

    rpc_reply_listener = ReplyListener()
    publisher = TransientPublisher()

    def __init__(self, target_service: str, *methods: str) -> None:
        super().__init__(target_service)
        self.methods = frozenset(methods)

    def get_dependency(self, worker_ctx: Any) -> ServiceProxy:
        """The proxy for this worker, which takes its caller's token and correlation id along."""
        return ServiceProxy(self, worker_ctx.data)
