"""The tables of ``docs/``, printed from the code's own data: ``python -m tests.support.pages`` writes them anew.

A table stands on its page between ``<!-- table: name -->`` and ``<!-- end -->``. A test fails while a page differs from
what would be written now.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR

import events
from cli.services import service_classes
from cli.state import CHECKOUT
from cli.topology import wanted
from gateway import GatewayService
from services.chassis.http import HttpEntrypoint
from services.chassis.topology import read_wiring
from services.inventory import transitions as stock
from services.notifications import models as notices
from services.orders import transitions as orders
from services.payments import transitions as payments
from tests.support.diagram import diagram, queue_rows

DOCS: Final = CHECKOUT / "docs"
PAGES: Final = ("saga.md", "api.md", "architecture.md")
NOBODY: Final = "none"
"""The row of an order that a service has not heard of."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def short(name: str) -> str:
    """An event's name without the word every event's name ends in."""
    return name.removesuffix("Event")


def event_table() -> str:
    """Every event, who publishes it, who reacts, and what it carries beyond what all of them do."""
    subscriptions = [each for service in service_classes() for each in read_wiring(service).subscriptions]
    rows = []
    for kind in events.ALL:
        consumers = [each.service for each in subscriptions if each.event == kind.__name__]
        common = events.OrderEvent if issubclass(kind, events.OrderEvent) else events.Event
        shared = {field.name for field in fields(common)}
        own = [f"`{field.name}`" for field in fields(kind) if field.name not in shared]
        rows.append([f"`{kind.__name__}`", kind.publisher, ", ".join(sorted(consumers)), ", ".join(own) or "-"])
    return table(["Event", "Publisher", "Consumers", "Further fields"], rows)


def order_table() -> str:
    """What each trigger does to an order, by the status it is in."""
    head = ["in", *(short(trigger.value) for trigger in orders.TRANSITIONS)]
    rows = [
        [status.value, *(row[status].value for row in orders.TRANSITIONS.values())] for status in orders.OrderStatus
    ]
    return table(head, rows)


def order_payment_table() -> str:
    """What an order's payment status may become."""
    return table(
        ["in", "may become"],
        (
            [before.value, ", ".join(each.value for each in orders.PaymentStatus if each in after) or "-"]
            for before, after in orders.PAYMENT_MOVES.items()
        ),
    )


def reservation_table() -> str:
    """What each event does to a reservation, by the status it is in."""
    head = ["in", *(short(kind.__name__) for kind in stock.TRANSITIONS)]
    rows = (
        [status or NOBODY, *(reservation_cell(row[status]) for row in stock.TRANSITIONS.values())]
        for status in [None, *stock.ReservationStatus]
    )
    return table(head, rows)


def reservation_cell(cell: stock.Cell) -> str:
    """A cell of the reservation's table in words."""
    tells = [f"tell InventoryReleased ({cell.released})"] if cell.released else []
    return "alarm" if cell.alarm else "; ".join([*filter(None, [" or ".join(cell.to)]), *tells]) or "-"


def payment_event_table() -> str:
    """What each event does to a payment, by the status it is in."""
    head = ["in", *(short(kind.__name__) for kind in payments.EVENTS)]
    rows = (
        [status or NOBODY, *(payment_cell(row[status]) for row in payments.EVENTS.values())]
        for status in [None, *payments.PaymentStatus]
    )
    return table(head, rows)


def payment_answer_table() -> str:
    """What each answer of the card processor does to a payment that waits for it."""
    rows = []
    for kind, answers in payments.ANSWERS.items():
        for answer, cell in answers.items():
            waits, plain = payments.WAITS[kind], payment_cell(cell)
            rows.append([kind, waits, answer.__name__, plain, payment_cell(cell.cell_for(cancelled=True))])
    return table(["asked for", "in", "answer", "order not cancelled", "order cancelled meanwhile"], rows)


def payment_cell(cell: payments.Cell) -> str:
    """A cell of the payment's tables in words."""
    tells = ["tell " + " and ".join(short(kind.__name__) for kind in cell.tells)] if cell.tells else []
    wish = ["set `cancel_requested`"] if cell.requests_cancel else []
    return "; ".join([*filter(None, [cell.to]), *wish, *tells]) or "-"


def notice_table() -> str:
    """Which events tell a customer what, and what is not told any more after which message."""
    rows = []
    for kind in notices.Kind:
        told_by = ", ".join(teller(event) for event, (told, _) in notices.NOTICES.items() if told is kind)
        others = ", ".join(each for each in kind.silenced_by if each is not kind)
        rows.append([kind, told_by, others or "-"])
    return table(["Kind", "Told by the first of", "Not after"], rows)


def teller(event: type[events.OrderEvent]) -> str:
    """An event, and for which reasons it tells anything if that is not for all."""
    if event is not events.OrderCancelledEvent:
        return f"`{event.__name__}`"
    reasons = ", ".join(each for each in events.CancelReason if each not in notices.TOLD_BY_THE_FAILURE)
    return f"`{event.__name__}` ({reasons})"


def endpoint_table() -> str:
    """Every route of the gateway."""
    return table(
        ["Method and path", "Who", "Answer"],
        (row for method in vars(GatewayService).values() for row in routes(method)),
    )


def routes(method: Any) -> Iterable[list[str]]:
    """The routes of one method of the gateway."""
    for entrypoint in getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ()):
        if not isinstance(entrypoint, HttpEntrypoint):
            continue
        path = re.sub(r"<uuid:(\w+)>", r"{\1}", entrypoint.url)
        who = "signed in" if hasattr(method, "__wrapped__") else "anyone"
        yield [f"{entrypoint.method} `{path}`", who, method.__doc__.replace("``", "`")]


def queue_table() -> str:
    """Every queue of the broker but the callers' own."""
    head = ["Service", "Events: one queue for each handler", "Calls, retries, what was given up or thrown away"]
    return table(head, queue_rows(wanted()))


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "events": event_table,
    "order": order_table,
    "order payment": order_payment_table,
    "reservation": reservation_table,
    "payment events": payment_event_table,
    "payment answers": payment_answer_table,
    "notices": notice_table,
    "endpoints": endpoint_table,
    "processes and data": diagram,
    "queues": queue_table,
}

_MARKED: Final = re.compile(r"(<!-- table: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """The page with every table as it is now."""
    return _MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[3]}", text)


if __name__ == "__main__":
    for name in PAGES:
        page = DOCS / name
        page.write_text(renewed(page.read_text()))
