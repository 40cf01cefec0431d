from tests.integration.payments.bench import PaymentsBench, a_cancelled, a_reserved
from tests.support.fakes import a_caller


class TestJourney:
    """What happened to an order here."""

    def test_shows_events_and_attempts_in_order(self, payments: PaymentsBench) -> None:
        """With what each came to."""
        order = a_reserved("pm_error_then_ok")
        payments.deliver(order)
        payments.work()
        payments.deliver(a_cancelled(order))
        payments.work()

        steps = payments.service(a_caller("staff")).get_journey(str(order.order_id))["steps"]

        assert [(step["event"], step["attempt"], step["outcome"]) for step in steps] == [
            ("InventoryReservedEvent", 1, "done"),
            ("charge", 1, "unanswered"),
            ("charge", 2, "charged"),
            ("PaymentProcessedEvent", 0, "waiting"),
            ("OrderCancelledEvent", 1, "done"),
            ("refund", 1, "refunded"),
            ("PaymentRefundedEvent", 0, "waiting"),
        ]

    def test_is_for_its_customer_and_staff(self, payments: PaymentsBench) -> None:
        """Nobody else learns anything."""
        order = a_reserved()
        payments.deliver(order)

        mine = payments.service(a_caller("customer", order.user_id)).get_journey(str(order.order_id))
        theirs = payments.service(a_caller("customer")).get_journey(str(order.order_id))

        assert [step["event"] for step in mine["steps"]] == ["InventoryReservedEvent"]
        assert theirs == {"steps": []}
