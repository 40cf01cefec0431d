import pytest

from events import OrderCancelledEvent, OrderConfirmedEvent, OrderDeliveredEvent, OrderShippedEvent
from services.chassis.errors import Alarm, Conflict
from services.orders.transitions import (
    ACTIONS,
    PAYMENT_MOVES,
    TRANSITIONS,
    OrderStatus,
    PaymentStatus,
    Trigger,
    allowed_actions,
    next_statuses,
    sources,
    target,
)
from tests.unit.orders.builders import an_order, entries, pull

PAGE = """
in        | Processed | PaymentFailed | ReservationFailed | cancel    | deadline  | ship    | deliver   | Released | Voided | Refunded
Pending   | Confirmed | Cancelled     | Cancelled         | Cancelled | Cancelled | 409     | 409       | alarm    | alarm  | alarm
Confirmed | -         | alarm         | alarm             | Cancelled | -         | Shipped | 409       | alarm    | alarm  | alarm
Shipped   | -         | alarm         | alarm             | 409       | -         | 200     | Delivered | alarm    | alarm  | alarm
Delivered | -         | alarm         | alarm             | 409       | -         | 409     | 200       | alarm    | alarm  | alarm
Cancelled | -         | -             | -                 | 200       | -         | 409     | 409       | settle   | settle | settle
"""  # noqa: E501 - the saga's own table, spelled a second time
"""The order's table as the design page has it, independent of the product's own."""

TRIGGERS = (
    Trigger.PAYMENT_PROCESSED,
    Trigger.PAYMENT_FAILED,
    Trigger.RESERVATION_FAILED,
    Trigger.CANCEL,
    Trigger.DEADLINE,
    Trigger.SHIP,
    Trigger.DELIVER,
    Trigger.INVENTORY_RELEASED,
    Trigger.PAYMENT_VOIDED,
    Trigger.PAYMENT_REFUNDED,
)
ROWS = [[cell.strip() for cell in line.split("|")] for line in PAGE.strip().splitlines()[1:]]
CELLS = [
    pytest.param(OrderStatus(row[0]), trigger, cell, id=f"{row[0]}-{trigger.name}")
    for row in ROWS
    for trigger, cell in zip(TRIGGERS, row[1:], strict=True)
]
REFUSED = [cell for cell in CELLS if cell.values[2] == "409"]
EFFECTIVE = [cell for cell in CELLS if cell.values[2] not in ("409", "alarm")]
EMITTED = {
    OrderStatus.CONFIRMED: OrderConfirmedEvent,
    OrderStatus.CANCELLED: OrderCancelledEvent,
    OrderStatus.SHIPPED: OrderShippedEvent,
    OrderStatus.DELIVERED: OrderDeliveredEvent,
}


class TestTheTable:
    """Every cell is what the design page says."""

    def test_has_a_cell_for_every_status_and_trigger(self) -> None:
        """No trigger meets a status the table does not know."""
        assert set(TRANSITIONS) == set(Trigger) == set(TRIGGERS)
        assert all(set(row) == set(OrderStatus) for row in TRANSITIONS.values())

    @pytest.mark.parametrize(("status", "trigger", "cell"), CELLS)
    def test_says_what_the_page_says(self, status: OrderStatus, trigger: Trigger, cell: str) -> None:
        """Read as data."""
        assert TRANSITIONS[trigger][status].value.startswith(cell)

    def test_lets_nothing_leave_a_terminal_status(self) -> None:
        """Delivered and Cancelled stay."""
        assert next_statuses(OrderStatus.DELIVERED) == []
        assert next_statuses(OrderStatus.CANCELLED) == []

    def test_has_one_target_for_each_trigger_that_moves(self) -> None:
        """A conditional update can name the status it leads to."""
        for trigger, row in TRANSITIONS.items():
            targets = {cell for cell in row.values() if isinstance(cell, OrderStatus)}
            assert targets in (set(), {target(trigger)} if targets else set())

    def test_says_where_a_conditional_update_may_start(self) -> None:
        """The sources are the statuses whose cell changes something."""
        assert sources(Trigger.CANCEL) == [OrderStatus.PENDING, OrderStatus.CONFIRMED]
        assert sources(Trigger.PAYMENT_REFUNDED) == [OrderStatus.CANCELLED]


class TestTheModel:
    """What the model does in every cell, whoever spelled it."""

    @pytest.mark.parametrize(("status", "trigger", "cell"), CELLS)
    def test_does_what_the_cell_says(self, status: OrderStatus, trigger: Trigger, cell: str) -> None:
        """Move and emit, refuse, alarm, settle, or leave it."""
        order = an_order(status)

        if cell in ("409", "alarm"):
            with pytest.raises(Conflict if cell == "409" else Alarm):
                pull(trigger, order)
            assert order.status == status
        elif cell in ("-", "200", "settle"):
            assert pull(trigger, order) == ()
            assert order.status == status
        else:
            (event,) = pull(trigger, order)
            assert order.status == OrderStatus(cell)
            assert type(event) is EMITTED[order.status]

    @pytest.mark.parametrize(("status", "trigger", "cell"), EFFECTIVE)
    def test_does_nothing_the_second_time(self, status: OrderStatus, trigger: Trigger, cell: str) -> None:
        """A repeat emits nothing and enters nothing."""
        order = an_order(status)
        pull(trigger, order)
        written, before = len(entries(order)), (order.status, order.payment_status, order.version)

        assert pull(trigger, order) == ()

        assert len(entries(order)) == written
        assert (order.status, order.payment_status, order.version) == before

    @pytest.mark.parametrize(("status", "trigger", "cell"), REFUSED)
    def test_refuses_and_says_what_would_be_allowed(self, status: OrderStatus, trigger: Trigger, cell: str) -> None:
        """A 409 carries from, to and allowed."""
        with pytest.raises(Conflict) as refusal:
            pull(trigger, an_order(status))

        assert refusal.value.code == "illegal_transition"
        assert refusal.value.extra == {
            "from": status.value,
            "to": target(trigger).value,
            "allowed": [each.value for each in next_statuses(status)],
        }


class TestPaymentStatus:
    """An order's payment status never moves backwards."""

    @pytest.mark.parametrize("before", PaymentStatus)
    def test_never_comes_back(self, before: PaymentStatus) -> None:
        """What follows a status never leads to it again."""
        ahead, seen = set(PAYMENT_MOVES[before]), set()
        while ahead:
            status = ahead.pop()
            seen.add(status)
            ahead |= PAYMENT_MOVES[status] - seen

        assert before not in seen

    def test_is_only_refunded_after_it_was_completed(self) -> None:
        """Completed leads to Refunded and nowhere else."""
        assert PAYMENT_MOVES[PaymentStatus.COMPLETED] == {PaymentStatus.REFUNDED}


class TestAllowedActions:
    """What a caller may do with an order they may see."""

    @pytest.mark.parametrize(
        ("status", "customer", "staff"),
        [
            (OrderStatus.PENDING, ["cancel"], ["cancel"]),
            (OrderStatus.CONFIRMED, ["cancel"], ["cancel", "ship"]),
            (OrderStatus.SHIPPED, [], ["deliver"]),
            (OrderStatus.DELIVERED, [], []),
            (OrderStatus.CANCELLED, [], []),
        ],
    )
    def test_follow_from_status_and_role(self, status: OrderStatus, customer: list[str], staff: list[str]) -> None:
        """As the API's page lists them."""
        assert allowed_actions(status, is_staff=False) == customer
        assert allowed_actions(status, is_staff=True) == staff

    @pytest.mark.parametrize("status", OrderStatus)
    def test_are_exactly_what_the_model_does_not_refuse_or_repeat(self, status: OrderStatus) -> None:
        """An allowed action moves the order."""
        moving = [action for action in ACTIONS if isinstance(TRANSITIONS[action][status], OrderStatus)]

        assert allowed_actions(status, is_staff=True) == moving
