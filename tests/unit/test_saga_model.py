"""The model of ``docs/saga-model`` finds nothing wrong with the product's tables, and would."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

import pytest

from cli.state import CHECKOUT
from events import (
    InventoryReservedEvent,
    OrderCancelledEvent,
    OrderCreatedEvent,
    OrderEvent,
    PaymentFailedEvent,
    PaymentVoidedEvent,
    ReleaseOutcome,
)
from saga_model.explorer import explore
from saga_model.moves import Weather
from saga_model.promises import PROMISES
from saga_model.report import figure, outcomes
from saga_model.rules import PRODUCT, Rules
from saga_model.services import Place
from saga_model.weathers import BRIEF, CALM, FOG, SQUALL
from services.inventory.transitions import Cell as StockCell
from services.inventory.transitions import ReservationStatus
from services.notifications.models import Channel, Kind
from services.orders.transitions import Cell as OrderCell
from services.orders.transitions import OrderStatus, Trigger
from services.orders.transitions import PaymentStatus as OrderPayment
from services.payments.transitions import AttemptKind, Charged, PaymentStatus, Refunded, Refused
from services.payments.transitions import Cell as PaymentCell

README: Final = CHECKOUT / "docs" / "saga-model" / "README.md"

BREEZE: Final = Weather("breeze", charges_answered=True)
RAIN: Final = Weather("rain", charges_answered=True, channels=(Channel.EMAIL,))
WEATHERS: Final = (BREEZE, FOG, RAIN, SQUALL)
"""Small ones, in which mistakes show soon."""

explored = cache(explore)


def with_cell(table: str, column: Any, row: Any, cell: Any) -> Rules:
    """The product with another cell in one of its tables."""
    if table == "answers":
        is_cancelled, (column, row) = row, column
        whole = PRODUCT.answers[column][row]
        other = cell if is_cancelled else whole.if_cancelled
        cell = replace(whole if is_cancelled else cell, if_cancelled=other)
    rows = getattr(PRODUCT, table)
    changes: dict[str, Any] = {table: {**rows, column: {**rows[column], row: cell}}}
    return replace(PRODUCT, **changes)


def deaf(service: str, event: type[OrderEvent]) -> Rules:
    """The product where the service does not hear of the event."""
    hear = tuple(each for each in PRODUCT.subscribers[event] if each != service)
    return replace(PRODUCT, subscribers={**PRODUCT.subscribers, event: hear})


def silenced(kind: Kind, *by: Kind) -> Rules:
    """The product where only these kinds of message keep one of this kind back."""
    return replace(PRODUCT, silenced_by={**PRODUCT.silenced_by, kind: by})


def releasing_after_failed_payments_only() -> Rules:
    """The product where inventory gives stock back when a payment fails, and not when an order is cancelled."""
    column = {status: replace(cell, released=None) for status, cell in PRODUCT.stock[OrderCancelledEvent].items()}
    hear = (*PRODUCT.subscribers[PaymentFailedEvent], "inventory")
    rules = deaf("inventory", OrderCancelledEvent)
    return replace(
        rules,
        stock={**PRODUCT.stock, PaymentFailedEvent: column},
        subscribers={**rules.subscribers, PaymentFailedEvent: hear},
    )


def cells() -> Iterator[tuple[Place, object]]:
    """Every cell of the product's four tables."""
    for table in ("orders", "stock", "payments"):
        for column, rows in getattr(PRODUCT, table).items():
            yield from ((Place(table, column, row), cell) for row, cell in rows.items())
    for kind, answers in PRODUCT.answers.items():
        for answer, cell in answers.items():
            for row in (False, True) if cell.if_cancelled else (None,):
                yield Place("answers", (kind, answer), row), cell.cell_for(cancelled=bool(row))


ALARMS: Final = {place for place, cell in cells() if cell is OrderCell.ALARM or getattr(cell, "alarm", False)}
NOTHING: Final = {
    "orders": OrderCell.NOTHING,
    "stock": StockCell(),
    "payments": PaymentCell(),
    "answers": PaymentCell(),
}
IDLE: Final = (OrderCell.REFUSED, OrderCell.REPEAT, *NOTHING.values())
EFFECTIVE: Final = [place for place, cell in cells() if place not in ALARMS and cell not in IDLE]


def title(place: Place) -> str:
    """A cell in a test's name."""
    column = place.column if isinstance(place.column, tuple) else (place.column,)
    return "-".join([place.table, *(getattr(each, "__name__", str(each)) for each in column), str(place.row)])


class TestTheProduct:
    """The tables that the services run on."""

    @pytest.mark.parametrize("weather", BRIEF, ids=lambda weather: weather.name)
    def test_keeps_every_promise_wherever_an_order_can_go(self, weather: Weather) -> None:
        """Whatever comes, in whatever order, how often and how late."""
        course = explored(weather)

        assert (course.broken, course.trace) == (None, ())

    @pytest.mark.parametrize("weather", BRIEF, ids=lambda weather: weather.name)
    def test_comes_to_every_cell_but_the_alarms(self, weather: Weather) -> None:
        """So none is there for nothing."""
        assert explored(weather).visited == {place for place, _ in cells()} - ALARMS

    def test_ends_where_the_page_says(self) -> None:
        """The model's README shows what ``python -m saga_model`` prints."""
        page = README.read_text()

        assert outcomes(explored(CALM)) in page
        for weather in BRIEF:
            assert " | ".join(figure(weather, explored(weather))) in page

    def test_is_held_to_what_the_page_lists(self) -> None:
        """Promise by promise."""
        listed = README.read_text().partition("## What is promised")[2].partition("\n## ")[0]

        assert [line[2:] for line in listed.splitlines() if line.startswith("- ")] == list(PROMISES)


PLACED: Final = "an order is placed"
CANCELLED: Final = "somebody cancels the order"
RESERVED: Final = "inventory hears of OrderCreatedEvent"
RELEASED: Final = "inventory hears of OrderCancelledEvent (customer)"
ASKED: Final = ("payments hears of InventoryReservedEvent", "payments asks the processor to charge")
CAPTURED: Final = (*ASKED, "the processor books the charge as Charged", "payments hears Charged to its charge")
CONFIRMED: Final = (PLACED, RESERVED, *CAPTURED, "orders hears of PaymentProcessedEvent")
TO_REFUND: Final = (PLACED, CANCELLED, RESERVED, *CAPTURED, "payments hears of OrderCancelledEvent (customer)")
SHORT: Final = "InventoryReservationFailedEvent"
UNSETTLED: Final = "orders gives up InventoryReleasedEvent"

MOVES_ON: Final = "nothing moves back or leaves a terminal state"
RESTS: Final = "every order comes to rest"
SETTLED: Final = "what is settled was given back"

MISTAKES: Final[Mapping[str, tuple[Rules, str, tuple[str, ...]]]] = {
    "inventory leaves no tombstone": (
        with_cell("stock", OrderCancelledEvent, None, StockCell(released=ReleaseOutcome.NOTHING_RESERVED)),
        SETTLED,
        (PLACED, CANCELLED, RELEASED, "orders hears of InventoryReleasedEvent (nothing_reserved)"),
    ),
    "payments leaves no tombstone": (
        with_cell("payments", OrderCancelledEvent, None, PaymentCell(tells=(PaymentVoidedEvent,))),
        SETTLED,
        (
            *(PLACED, CANCELLED, "payments hears of OrderCancelledEvent (customer)"),
            "orders hears of PaymentVoidedEvent (declined)",
        ),
    ),
    "inventory says released and keeps the stock": (
        with_cell(
            "stock", OrderCancelledEvent, ReservationStatus.RESERVED, StockCell(released=ReleaseOutcome.RELEASED)
        ),
        SETTLED,
        (PLACED, CANCELLED, RESERVED, RELEASED, "orders hears of InventoryReleasedEvent (released)"),
    ),
    "inventory releases only after a failed payment": (
        releasing_after_failed_payments_only(),
        RESTS,
        (PLACED, CANCELLED),
    ),
    "inventory reserves once more what it released": (
        with_cell("stock", OrderCreatedEvent, ReservationStatus.RELEASED, PRODUCT.stock[OrderCreatedEvent][None]),
        MOVES_ON,
        (PLACED, CANCELLED, RESERVED, RELEASED, "inventory hears again of OrderCreatedEvent"),
    ),
    "a late payment confirms a cancelled order": (
        with_cell("orders", Trigger.PAYMENT_PROCESSED, OrderStatus.CANCELLED, OrderStatus.CONFIRMED),
        MOVES_ON,
        (PLACED, CANCELLED, RESERVED, *CAPTURED, "orders hears of PaymentProcessedEvent"),
    ),
    "what was sent is cancelled": (
        with_cell("orders", Trigger.CANCEL, OrderStatus.SHIPPED, OrderStatus.CANCELLED),
        "a live order has its stock",
        (*CONFIRMED, "staff ship the order", CANCELLED, "inventory hears of OrderShippedEvent"),
    ),
    "the deadline takes a confirmed order": (
        with_cell("orders", Trigger.DEADLINE, OrderStatus.CONFIRMED, OrderStatus.CANCELLED),
        "only a person cancels a Confirmed order",
        (*CONFIRMED, "the deadline passes"),
    ),
    "what was captured is refunded at once": (
        with_cell("answers", (AttemptKind.CHARGE, Charged), False, PaymentCell(to=PaymentStatus.REFUNDING)),  # noqa: FBT003
        "only a cancelled order's money goes back",
        (PLACED, RESERVED, *CAPTURED),
    ),
    "nobody remembers a cancellation during the charge": (
        with_cell("payments", OrderCancelledEvent, PaymentStatus.PROCESSING, PaymentCell()),
        RESTS,
        (PLACED, CANCELLED, RESERVED, ASKED[0], "payments hears of OrderCancelledEvent (customer)"),
    ),
    "a refusal is taken for a refund": (
        with_cell("answers", (AttemptKind.REFUND, Refused), None, PRODUCT.answers[AttemptKind.REFUND][Refunded]),
        "payments knows what the processor did",
        (*TO_REFUND, "payments asks the processor to refund", "payments hears Refused to its refund"),
    ),
    "a reservation opens a payment that is being refunded": (
        with_cell(
            "payments", InventoryReservedEvent, PaymentStatus.REFUNDING, PaymentCell(to=PaymentStatus.PROCESSING)
        ),
        MOVES_ON,
        (*TO_REFUND, "payments hears again of InventoryReservedEvent"),
    ),
    "each request to the processor has a key of its own": (
        replace(PRODUCT, asks_by_key=False),
        "an order is charged at most once",
        (PLACED, RESERVED, *CAPTURED[:-1], "the processor charges again"),
    ),
    "a refund is forgotten for a late payment": (
        replace(
            PRODUCT,
            order_payments={**PRODUCT.order_payments, OrderPayment.REFUNDED: frozenset({OrderPayment.COMPLETED})},
        ),
        "a cancelled order holds nothing",
        (
            *(*TO_REFUND[:3], RELEASED, *TO_REFUND[3:], "payments asks the processor to refund"),
            *("the processor refunds", "payments hears Refunded to its refund"),
            "orders hears of InventoryReleasedEvent (released)",
            *("orders hears of PaymentRefundedEvent", "orders hears of PaymentProcessedEvent"),
        ),
    ),
    "reminders carry the id of the first announcement": (
        replace(PRODUCT, reminds_anew=False),
        RESTS,
        (PLACED, CANCELLED, RELEASED, f"{UNSETTLED} (nothing_reserved)"),
    ),
    "inventory tells of a release only once": (
        with_cell("stock", OrderCancelledEvent, ReservationStatus.RELEASED, StockCell()),
        RESTS,
        (PLACED, CANCELLED, RESERVED, RELEASED, f"{UNSETTLED} (released)"),
    ),
    "a closing does not keep the next one back": (
        silenced(Kind.CLOSING),
        "no message goes out twice",
        (PLACED, CANCELLED, *["notifications dies over OrderCancelledEvent (customer)"] * 2),
    ),
    "a closing does not keep the confirmation back": (
        silenced(Kind.CONFIRMATION, Kind.CONFIRMATION),
        "no confirmation follows a closing",
        (
            *(*CONFIRMED, CANCELLED, "notifications dies over OrderCancelledEvent (customer)"),
            "notifications dies over OrderConfirmedEvent",
        ),
    ),
    "an alarm stands where a late event comes": (
        with_cell("orders", Trigger.RESERVATION_FAILED, OrderStatus.CANCELLED, OrderCell.ALARM),
        "no alarm is reached",
        (
            *(PLACED, CANCELLED, RESERVED),
            f"orders hears of {SHORT} and raises the alarm: {SHORT} in Cancelled",
        ),
    ),
}


class TestAMistake:
    """What the model says of rules that are wrong."""

    @pytest.mark.parametrize(("rules", "promise", "trace"), MISTAKES.values(), ids=MISTAKES)
    def test_is_named_with_the_shortest_way_to_it(self, rules: Rules, promise: str, trace: tuple[str, ...]) -> None:
        """Step by step, from placing the order, in the fairest weather in which it shows."""
        course = next(course for weather in WEATHERS if (course := explore(weather, rules)).broken)

        assert course.broken == promise
        assert course.trace == trace

    @pytest.mark.parametrize("place", EFFECTIVE, ids=title)
    def test_of_leaving_a_cell_out_is_seen(self, place: Place) -> None:
        """Nothing that a table says is superfluous: without it a promise breaks, or orders end elsewhere."""
        rules = with_cell(place.table, place.column, place.row, NOTHING[place.table])

        assert any(differs(weather, rules) for weather in WEATHERS)


def differs(weather: Weather, rules: Rules) -> bool:
    """Whether these rules break a promise, or let an order end where the product's never do, or the other way round."""
    course = explore(weather, rules)
    return bool(course.broken) or course.outcomes != explored(weather).outcomes
