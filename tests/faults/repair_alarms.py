"""Every cell of the saga's tables that says alarm, made to happen: nothing changes, and a person is told."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final
from uuid import uuid4

from services.inventory.transitions import TRANSITIONS as STOCK
from services.inventory.transitions import ReservationStatus
from services.orders.transitions import TRANSITIONS as ORDERS
from services.orders.transitions import Cell, OrderStatus
from tests.faults.clinic import Clinic
from tests.faults.repair_table import LETTERS, story

FIELDS: Final[dict[str, dict[str, Any]]] = {
    "OrderCancelledEvent": {"reason": "customer", "cancelled_from": "Pending"},
    "OrderShippedEvent": {},
    "InventoryReservationFailedEvent": {"reason": "late", "shortages": []},
    "InventoryReleasedEvent": {"outcome": "released"},
    "PaymentFailedEvent": {"payment_id": str(uuid4()), "reason": "late"},
    "PaymentVoidedEvent": {"outcome": "never_charged"},
    "PaymentRefundedEvent": {
        "payment_id": str(uuid4()),
        "refund_id": "re_0",
        "amount_cents": 2100,
        "currency": "EUR",
    },
}
"""What each event says besides the order."""

_STANDS: Final = {
    "orders": "SELECT id, status, payment_status, version FROM orders WHERE id = ANY(%s::uuid[]) ORDER BY id",
    "inventory": "SELECT order_id, status FROM reservations WHERE order_id = ANY(%s::uuid[]) ORDER BY order_id",
}


@story(LETTERS, kinds=("alarm",))
def whatever_must_never_happen(clinic: Clinic) -> Iterator[None]:
    """An event at odds with its order, for every pair of the tables, and a payment over another sum."""
    with ExitStack() as cut:
        orders, stock = one_of_each(clinic, cut)
        order_ids = list({*orders.values(), *stock.values()})
        before = {service: clinic.rows(service, query, order_ids) for service, query in _STANDS.items()}
        told = [("orders", trigger.value, orders[status]) for trigger, row in ORDERS.items()
                for status, cell in row.items() if cell is Cell.ALARM]  # fmt: skip
        told += [("inventory", kind.__name__, stock[held]) for kind, cells in STOCK.items()
                 for held, cell in cells.items() if cell.alarm]  # fmt: skip
        for service, event, order_id in told:
            clinic.slip(event, service, {**clinic.about(order_id), **FIELDS[event]})
        other_sum = {"payment_id": str(uuid4()), "amount_cents": 1, "currency": "EUR", "transaction_id": "ch_0"}
        pending = orders[OrderStatus.PENDING]
        clinic.slip("PaymentProcessedEvent", "orders", {**clinic.about(pending), **other_sum})
        letters = clinic.letters("alarm", len(told) + 1)
        assert {service: clinic.rows(service, query, order_ids) for service, query in _STANDS.items()} == before
    yield
    wanted = {*told, ("orders", "PaymentProcessedEvent", pending)}
    assert {(letter["service"], letter["event"], letter["orderId"]) for letter in letters} == wanted
    clinic.discard(*letters)


def one_of_each(clinic: Clinic, cut: ExitStack) -> tuple[dict[OrderStatus, str], dict[ReservationStatus | None, str]]:
    """An order in each status, and one whose stock is in each; nothing moves on before the stack is closed."""
    customer, add_product = clinic.customer, clinic.admin.add_product
    confirmed, shipped, delivered, released = (clinic.sold() for _ in range(4))
    clinic.admin.ship(shipped)
    clinic.admin.ship(delivered)
    clinic.admin.deliver(delivered)
    customer.cancel(released)
    rejected = customer.place(add_product(stock=1), quantity=2)
    cut.enter_context(clinic.cut("OrderCreatedEvent", "inventory"))
    pending, buried = (customer.place(add_product(stock=1)) for _ in range(2))
    customer.cancel(buried)
    for order_id in (released, rejected, buried):
        settled = "SELECT 1 FROM orders WHERE id = %s AND num_nulls(stock_settled_at, payment_settled_at) = 0"
        clinic.until("orders", settled, order_id)
    clinic.until("inventory", "SELECT 1 FROM reservations WHERE order_id = %s AND status = 'shipped'", shipped)
    orders = {
        OrderStatus.PENDING: pending,
        OrderStatus.CONFIRMED: confirmed,
        OrderStatus.SHIPPED: shipped,
        OrderStatus.DELIVERED: delivered,
    }
    return orders, {
        None: pending,
        ReservationStatus.SHIPPED: shipped,
        ReservationStatus.REJECTED: rejected,
        ReservationStatus.RELEASED: released,
        ReservationStatus.TOMBSTONE: buried,
    }
