"""What is lost, stuck, refused or made by hand, and how each is healed; ``repair_table.py`` says what a story is."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

from amqp.basic_message import Message
from kombu.connection import Connection

from tests.faults.clinic import Clinic
from tests.faults.message_letters import let_broker_give_up
from tests.faults.repair_table import LETTERS, UNHEARD, story

# --- events that somebody did not hear


@story(UNHEARD, "orders.stock_is_as_the_order")
def inventory_did_not_hear_of_the_shipping(clinic: Clinic) -> Iterator[None]:
    """The goods have left, and inventory keeps them reserved."""
    product = clinic.admin.add_product(stock=1)
    order_id = clinic.sold(product)
    with clinic.unheard("OrderShippedEvent", "inventory"):
        clinic.admin.ship(order_id)
        clinic.until("orders", "SELECT 1 FROM outbox WHERE order_id = %s AND event_type = 'OrderShippedEvent'"
                     " AND published_at IS NOT NULL", order_id)  # fmt: skip
    yield
    clinic.repair()
    clinic.until("inventory", "SELECT 1 FROM products WHERE id = %s AND on_hand = 0 AND reserved = 0", product)


@story("notifications.outcome_is_told")
def the_customer_was_not_told_of_the_shipping(clinic: Clinic) -> Iterator[None]:
    """Notifications did not hear of it."""
    order_id = clinic.sold()
    with clinic.unheard("OrderShippedEvent", "notifications"):
        clinic.admin.ship(order_id)
        clinic.until("inventory", "SELECT 1 FROM reservations WHERE order_id = %s AND status = 'shipped'", order_id)
    yield
    clinic.repair()


@story(UNHEARD, "orders.cancelled_is_settled", "orders.stock_is_as_the_order")
def inventory_did_not_hear_of_the_cancellation(clinic: Clinic) -> Iterator[None]:
    """The order is cancelled and refunded, and its stock still set aside."""
    order_id = clinic.sold()
    with clinic.unheard("OrderCancelledEvent", "inventory"):
        clinic.customer.cancel(order_id)
        clinic.customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded", seconds=60)
    yield
    clinic.repair()


@story(
    UNHEARD,
    "orders.cancelled_is_settled",
    "orders.payment_is_as_the_order",
    "processor.charge_is_as_the_order",
    "processor.charges_less_refunds_are_the_live_orders",
)
def payments_did_not_hear_of_the_cancellation(clinic: Clinic) -> Iterator[None]:
    """The order is cancelled, its stock is back, and the money still kept."""
    order_id = clinic.sold()
    with clinic.unheard("OrderCancelledEvent", "payments"):
        clinic.customer.cancel(order_id)
        clinic.until("orders", "SELECT 1 FROM orders WHERE id = %s AND stock_settled_at IS NOT NULL", order_id)
    yield
    clinic.repair()


@story(UNHEARD, "orders.catalogue_is_current")
def orders_did_not_hear_of_a_new_price(clinic: Clinic) -> Iterator[None]:
    """They would go on selling at the old one."""
    product = clinic.admin.add_product(stock=1, price=10)
    clinic.until("orders", "SELECT 1 FROM catalogue WHERE product_id = %s", product)
    with clinic.unheard("ProductChangedEvent", "orders"):
        clinic.admin.good("PATCH", f"/api/inventory/products/{product}", {"price": 11})
        changed = "SELECT 1 FROM outbox WHERE payload LIKE %s AND payload LIKE '%%1100%%' AND published_at IS NOT NULL"
        clinic.until("inventory", changed, f"%{product}%")
    yield
    clinic.repair()
    clinic.until("orders", "SELECT 1 FROM catalogue WHERE product_id = %s AND unit_price_cents = 1100", product)


# --- events that were never sent


@story("orders.outbox_is_empty", "inventory.outbox_is_empty", "payments.outbox_is_empty", "broker.topology_is_complete")
def events_have_no_route(clinic: Clinic) -> Iterator[None]:
    """Bindings are gone; what was committed waits for them."""
    clinic.unbind("InventoryReservedEvent", "payments")
    clinic.unbind("PaymentVoidedEvent", "orders")
    cancelled = clinic.customer.place(clinic.admin.add_product(stock=1))
    clinic.until("inventory", "SELECT 1 FROM reservations WHERE order_id = %s", cancelled)
    clinic.customer.cancel(cancelled)
    clinic.until("payments", "SELECT 1 FROM payments WHERE order_id = %s", cancelled)
    clinic.unbind("OrderCreatedEvent", "inventory")
    placed = clinic.customer.place(clinic.admin.add_product(stock=1))
    yield
    clinic.apply_topology()
    clinic.customer.wait_for(placed, "Confirmed", seconds=60)
    clinic.customer.wait_for(cancelled, "Cancelled", paymentStatus="Voided", seconds=60)


@story("orders.status_was_told", "payments.payment_was_told", "inventory.reservation_was_told")
def rows_of_the_outboxes_are_lost(clinic: Clinic) -> Iterator[None]:
    """Somebody has deleted events that had no route yet."""
    released, charged = clinic.sold(), ""
    with ExitStack() as cut:
        for event, service in (
            ("InventoryReleasedEvent", "orders"),
            ("PaymentProcessedEvent", "orders"),
            ("PaymentProcessedEvent", "notifications"),
        ):
            cut.enter_context(clinic.cut(event, service))
        clinic.customer.cancel(released)
        charged = clinic.customer.place(clinic.admin.add_product(stock=1))
        lose(clinic, "inventory", "InventoryReleasedEvent", released)
        lose(clinic, "payments", "PaymentProcessedEvent", charged)
        cut.enter_context(clinic.cut("OrderCreatedEvent", "inventory"))
        placed = clinic.customer.place(clinic.admin.add_product(stock=1))
        lose(clinic, "orders", "OrderCreatedEvent", placed)
    yield
    clinic.repair()
    for order_id in (placed, charged):
        clinic.customer.wait_for(order_id, "Confirmed", seconds=60)


def lose(clinic: Clinic, service: str, event: str, order_id: str) -> None:
    """Delete the event from the outbox once it is there."""
    mine = "outbox WHERE order_id = %s AND event_type = %s AND published_at IS NULL"
    clinic.until(service, f"SELECT 1 FROM {mine}", order_id, event)  # noqa: S608 - ours
    clinic.cluster.execute(service, f"DELETE FROM {mine}", order_id, event)  # noqa: S608 - likewise


# --- what nobody worked on


@story("orders.no_pending_order_past_its_deadline", "payments.none_is_forgotten", "broker.every_queue_has_its_service")
def orders_and_payments_do_not_run(clinic: Clinic) -> Iterator[None]:
    """An order is overdue, and its charge under way."""
    with clinic.cut("OrderCreatedEvent", "inventory"):
        order_id = clinic.customer.place(clinic.admin.add_product(stock=1))
        for call in ("charge", "abandon"):
            clinic.fault(order_id, call, "fail")
    clinic.until("payments", "SELECT 1 FROM payments WHERE order_id = %s", order_id)
    clinic.cluster.stop("orders", "payments")
    clinic.cluster.expire(order_id)
    yield
    clinic.start("orders")
    clinic.until("orders", "SELECT 1 FROM orders WHERE id = %s AND status = 'Cancelled'", order_id)
    clinic.no_faults()
    clinic.start("payments")


@story("orders.payment_is_as_the_order", "processor.charge_is_as_the_order", "orders.cancelled_is_settled")
def a_refund_is_refused(clinic: Clinic) -> Iterator[None]:
    """Until a person has settled it with the processor."""
    order_id = clinic.sold()
    clinic.fault(f"{order_id}:refund", "refund", "refuse")
    clinic.customer.cancel(order_id)
    refused = "SELECT 1 FROM payments WHERE order_id = %s AND refund_refused_at IS NOT NULL"
    clinic.until("payments", refused, order_id)
    yield
    (finding,) = clinic.doctor()["orders.payment_is_as_the_order"]
    assert "the processor refuses the refund since" in finding["text"]
    clinic.no_faults()
    clinic.customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded", seconds=60)


# --- events that somebody made by hand


@story("orders.nothing_is_held_for_nobody", LETTERS, kinds=("lasting",))
def an_order_that_does_not_exist_was_told(clinic: Clinic) -> Iterator[None]:
    """Stock is set aside for it and money taken, for a customer who never asked."""
    product, order_id = clinic.admin.add_product(stock=1), str(uuid4())
    line = {"product_id": product, "product_name": "Thing", "quantity": 1, "unit_price_cents": 100}
    told = {"items": [line], "total_cents": 100, "currency": "EUR", "payment_method": "pm_ok"}
    clinic.operator.dispatch("orders", "OrderCreatedEvent", {**clinic.about(order_id), **told})
    clinic.until("payments", "SELECT 1 FROM payments WHERE order_id = %s AND status = 'captured'", order_id)
    clinic.letters("lasting")
    yield
    clinic.repair()
    clinic.until("payments", "SELECT 1 FROM payments WHERE order_id = %s AND status = 'refunded'", order_id)
    letters = clinic.letters("lasting", 3)
    assert {letter["event"] for letter in letters} == {
        "PaymentProcessedEvent",
        "InventoryReleasedEvent",
        "PaymentRefundedEvent",
    }
    clinic.discard(*letters)
    assert clinic.admin.stock(product) == (1, 0)


@story("orders.lines_are_held", LETTERS, kinds=("alarm",))
def an_order_was_told_with_other_amounts(clinic: Clinic) -> Iterator[None]:
    """Twice as much is set aside and charged, and the order does not take that for its payment."""
    product = clinic.admin.add_product(stock=2)
    with clinic.cut("OrderCreatedEvent", "inventory"):
        order_id = clinic.customer.place(product)
        (row,) = clinic.rows("orders", "SELECT payload::json AS told FROM outbox WHERE order_id = %s", order_id)
        forged = {**row["told"], "event_id": None, "total_cents": 2 * row["told"]["total_cents"]}
        forged["items"] = [{**forged["items"][0], "quantity": 2}]
        clinic.slip("OrderCreatedEvent", "inventory", forged)
        letters = clinic.letters("alarm")
    yield
    clinic.customer.cancel(order_id)
    clinic.customer.wait_for(order_id, "Cancelled", paymentStatus="Refunded", seconds=60)
    clinic.discard(*letters)
    clinic.until("inventory", "SELECT 1 FROM products WHERE id = %s AND (on_hand, reserved) = (2, 0)", product)


@story("notifications.message_has_its_outcome")
def a_delivery_was_told_that_never_was(clinic: Clinic) -> Iterator[None]:
    """The customer has a mail about it; the operator writes to him, and keeps the mail elsewhere."""
    order_id = clinic.sold()
    clinic.operator.dispatch("orders", "OrderDeliveredEvent", clinic.about(order_id))
    yield
    for finding in clinic.doctor()["notifications.message_has_its_outcome"]:
        file = Path(finding["row"]["file"])
        file.rename(clinic.folder / file.name)


# --- messages that were given up


@story(LETTERS, kinds=("malformed",))
def malformed_messages(clinic: Clinic) -> Iterator[None]:
    """An event that is none, and a call that nobody waits for."""
    clinic.operator.dispatch("orders", "OrderCancelledEvent", b"nonsense")  # three subscribers
    with Connection(clinic.cluster.place.vhost.amqp_url) as connection:
        message = Message(b"{}", content_type="application/json")
        connection.default_channel.basic_publish(message, "nameko-rpc", "payments.get_journey")
    letters = clinic.letters("malformed", 4)
    yield
    clinic.discard(*letters)


@story(LETTERS, kinds=("lasting",))
def a_handler_failed_for_long(clinic: Clinic) -> Iterator[None]:
    """A table was away; when it is back the letter is replayed."""
    clinic.cluster.execute("inventory", "ALTER TABLE reservations RENAME TO mislaid")
    try:
        order_id = clinic.customer.place(clinic.admin.add_product(stock=1))
        (letter,) = clinic.letters("lasting")
    finally:
        clinic.cluster.execute("inventory", "ALTER TABLE mislaid RENAME TO reservations")
    yield
    clinic.replay(letter)
    clinic.customer.wait_for(order_id, "Confirmed", seconds=60)


@story(LETTERS, kinds=("delivery_limit", "rejected"))
def the_broker_gave_up(clinic: Clinic) -> Iterator[None]:
    """Whoever took the message ended each time before it was answered; another one was rejected."""
    queue = clinic.subscription("OrderCreatedEvent", "inventory").queue
    products = {kind: clinic.admin.add_product(stock=1) for kind in ("delivery_limit", "rejected")}
    clinic.cluster.stop("inventory")
    orders = []
    for kind, product in products.items():
        orders.append(clinic.customer.place(product))
        let_broker_give_up(clinic.operator, queue, kind)
    letters = clinic.letters(count=len(orders))
    clinic.start("inventory")
    yield
    for letter in letters:
        clinic.replay(letter)
    for order_id in orders:
        clinic.customer.wait_for(order_id, "Confirmed", seconds=60)
