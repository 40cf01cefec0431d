"""The points at which a process may be stopped, put into the chassis and the services from outside.

Each hook says which point is passed, by what, and on whose behalf: the correlation id that travels from the request
through every call and event. The product knows nothing of this.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

import eventlet
from eventlet.corolocal import local
from sqlalchemy import event as listening
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.chassis import outbox, wire
from services.chassis.broker import ConfirmedPublisher, Message
from services.chassis.container import ServiceContainer
from services.chassis.http import HttpEntrypoint
from services.chassis.messaging import EventHandler
from services.chassis.rpc import RpcConsumer
from services.chassis.rpc_proxy import MethodProxy
from services.chassis.timer import Timer
from services.chassis.tracing import CORRELATION
from services.chassis.work import Work
from services.notifications import clients as mailing
from services.notifications import repository as sending
from services.payments import clients as payments
from tests.faults.stops import Point, Signal, Stops

AT_THE_POINT_SECONDS: Final = 0.3
"""How long a process that is asked to stop stays where it is, so that stopping has begun when it goes on."""

HELD_SECONDS: Final = 20.0
"""How long the outbox waits for a second row, where the point is in the middle of a batch."""

SENDING_LEASE_SECONDS: Final = 5
"""Instead of 45: each process that dies while it sends leaves its order to nobody for so long."""

EVENTS: Final = ".events"
_WROTE: Final = text("SELECT pg_current_xact_id_if_assigned() IS NOT NULL")

here = local()
"""The entrypoint and the correlation id of the worker that runs in this greenthread."""


class Passing:
    """Stops this process at the points that somebody wishes for."""

    def __init__(self, stops: Stops) -> None:
        self.stops = stops

    def __call__(self, point: Point, subject: str, tag: str, *, idle: bool = False) -> None:
        """Pass a point; a frozen process comes back from here when it is thawed."""
        wish = self.stops.wish(tag, point, subject) if tag else None
        if wish is None or (idle and not wish.idle) or not self.stops.take(tag, wish):
            return
        os.kill(os.getpid(), Signal(wish.signal).number)
        eventlet.sleep(AT_THE_POINT_SECONDS)


def install(stops: Stops) -> None:
    """Put the hooks in."""
    passing = Passing(stops)
    sending.LEASE_SECONDS = SENDING_LEASE_SECONDS  # type: ignore[misc]
    _know_the_worker()
    _hook_handlers(passing)
    _hook_commits(passing)
    _hook_outbox(passing)
    _hook_calls(passing)
    _hook_processor(passing)
    _hook_messages(passing)


def around(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    """Replace a method by one that gets the original first."""
    original = getattr(owner, name)

    @wraps(original)
    def replaced(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(owner, name, replaced)


def _know_the_worker() -> None:
    def run(original: Any, self: Any, worker_ctx: Any, handle_result: Any) -> Any:
        here.entrypoint = worker_ctx.entrypoint
        here.subject = f"{self.service_name}.{worker_ctx.entrypoint.method_name}"
        here.tag = str(worker_ctx.data.get(CORRELATION, ""))
        return original(self, worker_ctx, handle_result)

    around(ServiceContainer, "_run_worker", run)


def tag_of(body: Any) -> str:
    """The correlation id of an event on its way."""
    try:
        return str(wire.decode(body)[CORRELATION])
    except (ValueError, KeyError, TypeError):
        return ""


def _hook_handlers(passing: Passing) -> None:
    def deliver(original: Any, self: Any, message: Any) -> None:
        passing(Point.DELIVERED, self.handler, tag_of(message.body))
        original(self, message)

    def settle(original: Any, self: Any, message: Any, exc_info: Any) -> None:
        tag = "" if exc_info else tag_of(message.body)
        passing(Point.MESSAGE_RECORDED, self.handler, tag)
        original(self, message, exc_info)
        passing(Point.AFTER_ACK, self.handler, tag)

    around(EventHandler, "handle_delivery", deliver)
    around(EventHandler, "_settle", settle)


def _hook_commits(passing: Passing) -> None:
    def begin(original: Any, self: Work, session: Session, *args: Any) -> None:
        original(self, session, *args)
        session.info["work"] = self

    def before(session: Session) -> None:
        work = session.info.get("work")
        if work is not None and work._delivery is not None:
            session.flush()
            passing(Point.BEFORE_COMMIT, work._delivery.handler, work.trace.correlation_id)
        elif work is not None and _is_timer():
            session.flush()
            session.info["wrote"] = bool(session.scalar(_WROTE))
            passing(Point.TIMER_BEFORE_COMMIT, here.subject, here.subject, idle=not session.info["wrote"])

    def after(session: Session) -> None:
        work = session.info.get("work")
        if work is not None and work._delivery is not None:
            passing(Point.AFTER_COMMIT, work._delivery.handler, work.trace.correlation_id)
        elif work is not None and _is_timer():
            passing(Point.TIMER_AFTER_COMMIT, here.subject, here.subject, idle=not session.info["wrote"])

    around(Work, "__init__", begin)
    listening.listen(Session, "before_commit", before)
    listening.listen(Session, "after_commit", after)


def _is_timer() -> bool:
    return isinstance(getattr(here, "entrypoint", None), Timer)


def _hook_outbox(passing: Passing) -> None:
    def publish(original: Any, self: Any, messages: Sequence[Message]) -> Any:
        told = [(each.routing_key, tag_of(each.body)) for each in messages if each.exchange.endswith(EVENTS)]
        for event, tag in told:
            passing(Point.CLAIMED, event, tag)
        refused = original(self, messages)
        for event, tag in told:
            passing(Point.CONFIRMED, event, tag)
        return refused

    def open_channel(original: Any, self: Any) -> Any:
        channel = original(self)
        if "passes_points" not in vars(channel):
            channel.passes_points = True
            _hook_channel(channel, passing)
        return channel

    def take(connection: Any) -> Any:
        rows = taken(connection)
        return [] if any(_is_alone(row, rows, passing.stops) for row in rows) else rows

    around(ConfirmedPublisher, "publish", publish)
    around(ConfirmedPublisher, "_open", open_channel)
    taken, outbox.take = outbox.take, take


def _is_alone(row: Any, rows: Sequence[Any], stops: Stops) -> bool:
    """Whether somebody waits for the middle of a batch, and this row has no companion yet."""
    if stops.wish(row.correlation_id, Point.MID_BATCH, row.event_type) is None or row.age > HELD_SECONDS:
        return False
    return sum((each.correlation_id, each.event_type) == (row.correlation_id, row.event_type) for each in rows) == 1


def _hook_channel(channel: Any, passing: Passing) -> None:
    publish = channel._basic_publish

    def published(message: Any, exchange: str, routing_key: str, **options: Any) -> None:
        publish(message, exchange, routing_key, **options)
        if exchange.endswith(EVENTS):
            passing(Point.PUBLISHED, routing_key, str(message.properties.get("correlation_id")))
            passing(Point.MID_BATCH, routing_key, str(message.properties.get("correlation_id")))

    channel._basic_publish = published


def _hook_calls(passing: Passing) -> None:
    def call(original: Any, self: Any, *args: Any, **kwargs: Any) -> Any:
        subject, tag = _caller(self), str(self._context.get(CORRELATION))
        passing(Point.BEFORE_RPC, subject, tag)
        reply = original(self, *args, **kwargs)
        passing(Point.RPC_SENT, subject, tag)
        return reply

    def answer(original: Any, self: Any, message: Any, *args: Any) -> Any:
        if args[-1] is None:
            tag = str(message.headers.get(f"nameko.{CORRELATION}"))
            passing(Point.REPLY_LOST, message.delivery_info["routing_key"], tag)
        return original(self, message, *args)

    def handle(original: Any, self: Any, request: Any) -> Any:
        response = original(self, request)
        if response.status_code < 400:
            passing(Point.ANSWER_UNWRITTEN, f"{self.container.service_name}.{self.method_name}", request.request_id)
        return response

    around(MethodProxy, "call_async", call)
    around(RpcConsumer, "answer", answer)
    around(HttpEntrypoint, "handle_request", handle)


def _caller(call: Any) -> str:
    """The route that calls, where it is its own method of the same name, else the method called."""
    subject = str(getattr(here, "subject", ""))
    is_route = isinstance(getattr(here, "entrypoint", None), HttpEntrypoint)
    return subject if is_route and call.name.endswith(f".{subject.partition('.')[2]}") else str(call.name)


def _hook_processor(passing: Passing) -> None:
    def ask(original: Any, self: Any, request: Any) -> Any:
        passing(Point.BEFORE_PROCESSOR, str(request.kind), request.correlation_id)
        answers = original(self, request)
        passing(Point.AFTER_PROCESSOR, str(request.kind), request.correlation_id)
        return answers

    around(payments.CardProcessor, "ask", ask)


def _hook_messages(passing: Passing) -> None:
    @contextmanager
    def lease(original: Any, self: Any, order_id: Any) -> Iterator[None]:
        with original(self, order_id):
            passing(Point.MESSAGE_CLAIMED, here.subject, here.tag)
            yield

    def deliver(original: Any, self: Any, *args: Any) -> Any:
        delivered = original(self, *args)
        passing(Point.MESSAGE_SENT, here.subject, here.tag)
        return delivered

    around(sending.SentRepository, "lease", lease)
    around(mailing.Mailbox, "deliver", deliver)
