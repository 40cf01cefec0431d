"""What the model takes from the product: its tables of transitions, its wiring, and what customers are told of.

Nothing of it is spelled here a second time. A test may put something else in its place and see what comes of that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import events
from cli.services import service_classes
from events import CancelReason, OrderEvent, VoidOutcome
from services.chassis.topology import read_wiring
from services.inventory import transitions as of_stock
from services.notifications.models import NOTICES, TOLD_BY_THE_FAILURE, Kind
from services.orders import transitions as of_orders
from services.payments import transitions as of_payments

Subscribers = Mapping[type[OrderEvent], tuple[str, ...]]


def subscribers() -> Subscribers:
    """Which services hear of each event about an order, as their handlers say."""
    wired = [each for service in service_classes() for each in read_wiring(service).subscriptions]
    return {
        kind: tuple(each.service for each in wired if (each.source, each.event) == (kind.publisher, kind.__name__))
        for kind in events.ALL
        if issubclass(kind, OrderEvent)
    }


@dataclass(frozen=True)
class Rules:
    """The tables; then, as yes or no, what the code around them does.

    ``reminds_anew``: an order that is not settled is announced again under a new event id. ``asks_by_key``: each
    repeat of a request to the card processor carries the key of the first.
    """

    orders: Mapping[of_orders.Trigger, Mapping[of_orders.OrderStatus, of_orders.OrderStatus | of_orders.Cell]]
    order_payments: Mapping[of_orders.PaymentStatus, frozenset[of_orders.PaymentStatus]]
    voided_as: Mapping[VoidOutcome, of_orders.PaymentStatus]
    stock: Mapping[type[OrderEvent], Mapping[of_stock.ReservationStatus | None, of_stock.Cell]]
    payments: Mapping[type[OrderEvent], Mapping[of_payments.PaymentStatus | None, of_payments.Cell]]
    answers: Mapping[of_payments.AttemptKind, Mapping[type[of_payments.Answer], of_payments.Cell]]
    waits: Mapping[of_payments.AttemptKind, of_payments.PaymentStatus]
    notices: Mapping[type[OrderEvent], Kind]
    untold: frozenset[CancelReason]
    silenced_by: Mapping[Kind, tuple[Kind, ...]]
    subscribers: Subscribers
    reminds_anew: bool = True
    asks_by_key: bool = True


PRODUCT: Final = Rules(
    orders=of_orders.TRANSITIONS,
    order_payments=of_orders.PAYMENT_MOVES,
    voided_as=of_orders.VOIDED_AS,
    stock=of_stock.TRANSITIONS,
    payments=of_payments.EVENTS,
    answers=of_payments.ANSWERS,
    waits=of_payments.WAITS,
    notices={event: kind for event, (kind, _) in NOTICES.items()},
    untold=TOLD_BY_THE_FAILURE,
    silenced_by={kind: kind.silenced_by for kind in Kind},
    subscribers=subscribers(),
)
"""The product as it is."""
