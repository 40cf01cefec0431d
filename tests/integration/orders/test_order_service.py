from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select

from events import ProductChangedEvent
from services.chassis import wire
from services.chassis.auth import Principal, Stranger
from services.chassis.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    ServiceError,
    Unauthenticated,
    Unavailable,
)
from services.chassis.inbox import INBOX
from services.chassis.outbox import OUTBOX
from services.orders.models import Order
from services.orders.repository import CatalogueRepository, IdempotencyRepository
from services.orders.service import FEW
from services.orders.tables import IdempotencyKey
from services.orders.transitions import OrderStatus
from tests.integration.orders.stage import Stage
from tests.property.crashes import Crash, Fuse, Killed
from tests.support.fakes import a_caller
from tests.unit.orders.builders import (
    LATER,
    NOW,
    STAFF,
    a_product,
    an_order,
    inventory_released,
    payment_processed,
    payment_voided,
)


def a_body(product_id: UUID, **line: Any) -> dict[str, Any]:
    """An order of two pieces."""
    return {"items": [{"productId": str(product_id), "quantity": 2, **line}]}


def count(stage: Stage, table: Any) -> int:
    """How many rows the table has."""
    with stage.sessions() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


class TestPlaceOrder:
    """Placing an order."""

    def test_prices_it_by_the_catalogue_and_tells_inventory(self, stage: Stage, customer: Principal) -> None:
        """Inventory itself is not asked."""
        product = stage.stock(name="Kettle", unit_price_cents=1250)

        answer = stage.serve(customer).place_order(
            a_body(product.product_id, productName="Gold", price=Decimal("12.5"))
        )

        order = answer["order"]
        assert (answer["replayed"], order["status"], order["totalAmount"]) == (False, "Pending", Decimal("25.00"))
        assert order["items"][0]["productName"] == "Kettle"
        assert stage.inventory.asked == []
        (created,) = stage.published(UUID(order["id"]))
        assert (created["event_type"], created["total_cents"]) == ("OrderCreatedEvent", 2500)
        assert created["user_id"] == str(customer.user_id)
        assert created["correlation_id"] == "a-request"

    def test_asks_once_for_a_product_it_does_not_know(self, stage: Stage, customer: Principal) -> None:
        """And remembers the answer."""
        known, fresh = stage.stock(), a_product(unit_price_cents=700)
        stage.inventory.products = [fresh]
        body = {"items": [{"productId": str(each.product_id), "quantity": 1} for each in (known, fresh)]}

        first = stage.serve(customer).place_order(body)
        stage.inventory.away = True
        stage.serve(customer).place_order(body)

        assert first["order"]["totalAmount"] == Decimal("19.50")
        assert stage.inventory.asked == [[str(fresh.product_id)]]

    def test_needs_inventory_for_a_product_it_does_not_know(self, stage: Stage, customer: Principal) -> None:
        """Nothing is half written."""
        stage.inventory.away = True

        with pytest.raises(Unavailable):
            stage.serve(customer).place_order(a_body(uuid4()))

        assert count(stage, Order) == 0

    @pytest.mark.parametrize("product", [None, {"active": False}])
    def test_refuses_what_cannot_be_bought(
        self, stage: Stage, customer: Principal, product: dict[str, Any] | None
    ) -> None:
        """A product nobody knows and one that is not sold any more."""
        product_id = stage.stock(**product).product_id if product else uuid4()

        with pytest.raises(InvalidInput, match="product_unavailable"):
            stage.serve(customer).place_order(a_body(product_id))

    def test_refuses_a_price_that_is_no_longer_true(self, stage: Stage, customer: Principal) -> None:
        """With the true one."""
        product = stage.stock(unit_price_cents=1300)

        with pytest.raises(Conflict, match="price_changed") as refusal:
            stage.serve(customer).place_order(a_body(product.product_id, price=Decimal("12.50")))

        assert refusal.value.extra["current"][0]["price"] == Decimal("13.00")

    def test_keeps_its_prices_when_the_catalogue_changes(self, stage: Stage, customer: Principal) -> None:
        """The order has a snapshot."""
        product = stage.stock(unit_price_cents=1250)
        order = stage.serve(customer).place_order(a_body(product.product_id))["order"]

        change = ProductChangedEvent(
            occurred_at=NOW,
            product_id=product.product_id,
            name="Gold kettle",
            unit_price_cents=9900,
            currency="EUR",
            active=True,
            product_version=2,
        )
        stage.deliver("on_product_changed", change)
        stage.deliver("on_product_changed", change, attempt=2)

        assert stage.serve(customer).get_order(order["id"])["items"] == order["items"]
        dearer = stage.serve(customer).place_order(a_body(product.product_id))["order"]
        assert dearer["totalAmount"] == Decimal("198.00")
        assert count(stage, INBOX) == 1


class TestIdempotency:
    """The same key twice."""

    def place(self, stage: Stage, customer: Principal, body: dict[str, Any], key: str = "k-1") -> dict[str, Any]:
        """Place an order with a key."""
        answer: dict[str, Any] = stage.serve(customer).place_order(body, idempotency_key=key)
        return answer

    def test_gets_the_first_answer_again(self, stage: Stage, customer: Principal) -> None:
        """To the letter, although order, product and price have moved on."""
        product = stage.stock()
        first = self.place(stage, customer, a_body(product.product_id, price=Decimal("12.50")))
        stage.serve(customer).cancel_order(first["order"]["id"], {})
        with stage.sessions.begin() as session:
            gone = a_product(product_id=product.product_id, unit_price_cents=1, active=False, product_version=2)
            CatalogueRepository(session).learn([gone])

        second = self.place(stage, customer, a_body(product.product_id, price=Decimal("12.5")))

        assert second == {"order": first["order"], "replayed": True}
        assert wire.encode(second["order"]) == wire.encode(first["order"])
        assert count(stage, Order) == 1

    def test_with_another_body_is_refused(self, stage: Stage, customer: Principal) -> None:
        """A key is for one request."""
        product = stage.stock()
        self.place(stage, customer, a_body(product.product_id))

        with pytest.raises(InvalidInput, match="idempotency_key_reused"):
            self.place(stage, customer, a_body(product.product_id, quantity=3))

    def test_means_nothing_for_somebody_else_or_elsewhere(self, stage: Stage, customer: Principal) -> None:
        """The scope is user, method, path and key."""
        product = stage.stock()
        first = self.place(stage, customer, a_body(product.product_id))

        other = self.place(stage, a_caller(), a_body(product.product_id))
        cancelled = stage.serve(customer).cancel_order(first["order"]["id"], {}, idempotency_key="k-1")

        assert not other["replayed"]
        assert not cancelled["replayed"]

    def test_is_free_again_after_a_refusal(self, stage: Stage, customer: Principal) -> None:
        """Only successes are kept."""
        product = stage.stock()
        with pytest.raises(Conflict):
            self.place(stage, customer, a_body(product.product_id, price=Decimal(1)))

        assert not self.place(stage, customer, a_body(product.product_id))["replayed"]

    def test_is_forgotten_after_a_day(self, stage: Stage, customer: Principal) -> None:
        """Pruned or not."""
        product = stage.stock()
        self.place(stage, customer, a_body(product.product_id))
        stage.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")

        assert not self.place(stage, customer, a_body(product.product_id))["replayed"]
        assert self.place(stage, customer, a_body(product.product_id))["replayed"]

    def test_holds_when_the_process_dies_with_the_order(self, stage: Stage, customer: Principal) -> None:
        """Nobody got the answer, which was kept with the order: whoever asks again gets it."""
        body, fuse = a_body(stage.stock().product_id), Fuse(stage.sessions)
        fuse.arm(Crash.AFTER, commits=2)  # the first is that of looking into the catalogue
        with pytest.raises(Killed):
            self.place(stage, customer, body)
        fuse.disarm()

        assert self.place(stage, customer, body)["replayed"]
        assert count(stage, Order) == 1

    def test_sent_by_many_at_once_places_one_order(self, stage: Stage, customer: Principal) -> None:
        """Each of the others is told to wait or gets the first answer."""
        body = a_body(stage.stock().product_id)

        def attempt(_: int) -> tuple[str, object]:
            try:
                return "placed", self.place(stage, customer, body)["order"]["id"]
            except Conflict as refusal:
                return refusal.code, refusal.extra["retry_after"]

        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(attempt, range(16)))

        assert (count(stage, Order), count(stage, OUTBOX)) == (1, 1)
        (placed,) = answers - {("idempotency_key_in_use", 1)}
        assert placed[0] == "placed"

    def test_is_in_use_until_the_first_request_has_committed(
        self, stage: Stage, customer: Principal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A row that is not committed cannot be seen; the lock can."""
        body, refused = a_body(stage.stock().product_id), []
        keep = IdempotencyRepository.keep

        def keep_while_another_tries(repository: Any, request: Any, answer: Any) -> None:
            keep(repository, request, answer)
            with pytest.raises(ServiceError) as refusal:
                self.place(stage, customer, body)
            refused.append(refusal.value.code)

        monkeypatch.setattr(IdempotencyRepository, "keep", keep_while_another_tries)
        self.place(stage, customer, body)
        monkeypatch.undo()

        assert refused == ["idempotency_key_in_use"]
        assert self.place(stage, customer, body)["replayed"]


class TestStrangers:
    """Callers without a valid token, also when they reach the service past the gateway."""

    @pytest.mark.parametrize(
        ("method", "arguments"),
        [
            ("place_order", ({"items": [{"productId": str(uuid4()), "quantity": 1}]},)),
            ("list_orders", ({},)),
            ("get_order", ("known",)),
            ("get_order", ("unknown",)),
            ("cancel_order", ("known", {})),
            ("ship_order", ("known", {})),
            ("deliver_order", ("known",)),
            ("get_journey", ("known",)),
        ],
    )
    def test_learn_nothing(self, stage: Stage, customer: Principal, method: str, arguments: tuple[Any, ...]) -> None:
        """Not even which orders there are."""
        ids = {"known": stage.place(customer)["id"], "unknown": str(uuid4())}
        given = [ids.get(each, each) if isinstance(each, str) else each for each in arguments]
        stranger = Stranger(Unauthenticated("token_missing", "This needs an access token."))

        with pytest.raises(Unauthenticated):
            getattr(stage.serve(stranger), method)(*given)


class TestReading:
    """Getting and listing."""

    def test_hides_the_orders_of_others_also_in_the_copy(self, stage: Stage, customer: Principal) -> None:
        """Whoever filled it."""
        order = stage.place(customer)
        stage.serve(customer).get_order(order["id"])
        assert stage.copies.copies

        with pytest.raises(NotFound):
            stage.serve(a_caller()).get_order(order["id"])

    def test_shows_everybody_what_they_may_do(self, stage: Stage, customer: Principal) -> None:
        """From one copy."""
        order = stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(order["id"])))

        assert stage.serve(customer).get_order(order["id"])["allowedActions"] == ["cancel"]
        assert stage.serve(STAFF).get_order(order["id"])["allowedActions"] == ["cancel", "ship"]
        assert stage.serve(customer).get_order(order["id"])["allowedActions"] == ["cancel"]

    def test_knows_no_order_of_what_is_no_id(self, stage: Stage, customer: Principal) -> None:
        """Bad ids are unknown ones."""
        for read in (stage.serve(customer).get_order, stage.serve(customer).get_journey):
            with pytest.raises(NotFound):
                read("nonsense")

    def test_lists_summaries(self, stage: Stage, customer: Principal) -> None:
        """In the API's shape."""
        order = stage.place(customer)

        assert stage.serve(customer).list_orders({"limit": "1"}) == {
            "items": [
                {
                    "id": order["id"],
                    "userId": str(customer.user_id),
                    "status": "Pending",
                    "totalAmount": Decimal("25.00"),
                    "currency": "EUR",
                    "createdAt": order["createdAt"],
                    "itemCount": 1,
                }
            ],
            "nextCursor": None,
        }


class TestCancelOrder:
    """Cancelling by a person."""

    def test_twice_gives_the_same_order_and_one_event(self, stage: Stage, customer: Principal) -> None:
        """The second gets 200 and the order as it is now."""
        order = stage.place(customer)

        first = stage.serve(customer).cancel_order(order["id"], {"reason": "too dear"})
        second = stage.serve(STAFF).cancel_order(order["id"], {})

        assert first["order"]["status"] == second["order"]["status"] == "Cancelled"
        assert second["order"]["statusReason"] == "customer"
        assert stage.published(UUID(order["id"]))[-1]["note"] == "too dear"
        assert len(stage.published(UUID(order["id"]))) == 2

    def test_with_a_key_is_replayed(self, stage: Stage, customer: Principal) -> None:
        """Also once it is settled, or anything else."""
        order = stage.place(customer)
        first = stage.serve(customer).cancel_order(order["id"], {}, idempotency_key="c")

        second = stage.serve(customer).cancel_order(order["id"].upper(), {}, idempotency_key="c")

        assert second == {"order": first["order"], "replayed": True}

    def test_of_somebody_elses_order_finds_none(self, stage: Stage, customer: Principal) -> None:
        """404, not 403."""
        order = stage.place(customer)

        with pytest.raises(NotFound):
            stage.serve(a_caller()).cancel_order(order["id"], {})

    def test_by_many_at_once_cancels_once(self, stage: Stage, customer: Principal) -> None:
        """Cancel against cancel, and against the deadline."""
        order = stage.place(customer)
        stage.shift(order["id"], "deadline_at", interval="901 seconds")
        cancel = lambda _: stage.serve(customer).cancel_order(order["id"], {})["order"]["status"]  # noqa: E731

        with ThreadPoolExecutor(4) as pool:
            timer = pool.submit(stage.serve().expire_orders)
            statuses = list(pool.map(cancel, range(6)))
            timer.result()

        assert statuses == ["Cancelled"] * 6
        assert len(stage.published(UUID(order["id"]))) == 2


class TestShippingAndDelivering:
    """What staff does."""

    def test_take_a_paid_order_to_its_end(self, stage: Stage, customer: Principal) -> None:
        """Each step once, each repeat as it is."""
        order = stage.place(customer)
        stage.deliver("on_payment_processed", payment_processed(stage.load(order["id"])))

        shipped = [stage.serve(STAFF).ship_order(order["id"], {"tracking": "T-1"}) for _ in range(2)]
        delivered = [stage.serve(STAFF).deliver_order(order["id"]) for _ in range(2)]

        assert [each["status"] for each in (*shipped, *delivered)] == ["Shipped"] * 2 + ["Delivered"] * 2
        kinds = [event["event_type"] for event in stage.published(UUID(order["id"]))]
        assert kinds == ["OrderCreatedEvent", "OrderConfirmedEvent", "OrderShippedEvent", "OrderDeliveredEvent"]
        assert stage.published(UUID(order["id"]))[2]["tracking"] == "T-1"

    def test_are_refused_out_of_turn(self, stage: Stage, customer: Principal) -> None:
        """With what would be allowed."""
        order = stage.place(customer)

        with pytest.raises(Conflict) as refusal:
            stage.serve(STAFF).ship_order(order["id"], {})

        assert refusal.value.extra == {"from": "Pending", "to": "Shipped", "allowed": ["Confirmed", "Cancelled"]}

    def test_are_not_for_customers(self, stage: Stage, customer: Principal) -> None:
        """Not even for their own orders."""
        order = stage.place(customer)

        with pytest.raises(Forbidden):
            stage.serve(customer).ship_order(order["id"], {})
        with pytest.raises(Forbidden):
            stage.serve(customer).deliver_order(order["id"])


class TestJourney:
    """What an order has been through."""

    def test_tells_every_step_once_and_what_comes_next(self, stage: Stage, customer: Principal) -> None:
        """Events with what they changed, people's and timers' doings between them."""
        order = stage.place(customer)
        paid = payment_processed(stage.load(order["id"]))
        stage.deliver("on_payment_processed", paid, attempt=3)
        stage.execute("UPDATE outbox SET published_at = now(), attempts = 1")
        stage.serve(customer).cancel_order(order["id"], {"reason": "no"})

        journey = wire.decode(wire.encode(stage.serve(customer).get_journey(order["id"])))

        told = [(step["event"], step["outcome"]) for step in journey["steps"]]
        assert sorted(told) == sorted(
            [
                ("place by customer", "Pending"),
                ("OrderCreatedEvent", "published"),
                ("PaymentProcessedEvent", "Pending -> Confirmed"),
                ("OrderConfirmedEvent", "published"),
                ("cancel by customer", "Confirmed -> Cancelled"),
                ("OrderCancelledEvent", "waiting"),
            ]
        )
        assert journey["waitingFor"] == "the broker to take OrderCancelledEvent"
        handled = next(step for step in journey["steps"] if step["event"] == "PaymentProcessedEvent")
        assert (handled["attempt"], handled["eventId"], handled["service"]) == (3, str(paid.event_id), "orders")

    def test_is_not_for_others(self, stage: Stage, customer: Principal) -> None:
        """Unknown to them."""
        order = stage.place(customer)

        with pytest.raises(NotFound):
            stage.serve(a_caller()).get_journey(order["id"])

    def test_has_a_deadline_while_it_is_pending(self, stage: Stage, customer: Principal) -> None:
        """And says whom it waits for."""
        order = stage.place(customer)
        stage.execute("UPDATE outbox SET published_at = now()")

        journey = stage.serve(customer).get_journey(order["id"])

        assert journey["deadline"].endswith("Z")
        assert journey["waitingFor"].startswith("inventory to reserve")


class TestTimers:
    """What time alone brings about."""

    def test_expire_every_overdue_order(self, stage: Stage) -> None:
        """More than are locked at a time; the others have time left."""
        late = [stage.keep(an_order()) for _ in range(FEW + 3)]
        for order in late:
            stage.shift(order.id, "deadline_at", interval="901 seconds")
        fresh = stage.keep(an_order())

        stage.serve().expire_orders()
        stage.serve().expire_orders()

        for order in late:
            (cancelled,) = stage.published(order.id)
            assert (cancelled["reason"], cancelled["cancelled_from"]) == ("expired", "Pending")
        assert stage.load(fresh.id).status == "Pending"

    def test_remind_of_what_was_not_given_back(self, stage: Stage) -> None:
        """Under a new id, then not again for a while."""
        order = stage.keep(an_order(OrderStatus.CANCELLED))
        stage.shift(order.id, "cancelled_at", interval="301 seconds")

        stage.serve().remind_of_settlement()
        stage.serve().remind_of_settlement()

        (again,) = stage.published(order.id)
        assert (again["event_type"], again["reason"]) == ("OrderCancelledEvent", "expired")
        stage.shift(order.id, "next_settlement_at", interval="601 seconds")
        stage.serve().remind_of_settlement()
        first, second = stage.published(order.id)
        assert first["event_id"] != second["event_id"]

    def test_prune_the_evidence_of_orders_that_are_long_over(self, stage: Stage, customer: Principal) -> None:
        """Inbox and outbox together; a month counts from the last change."""
        orders = [stage.load(stage.place(customer)["id"]) for _ in range(3)]
        for order in orders:
            stage.serve(customer).cancel_order(str(order.id), {})
            stage.deliver("on_inventory_released", inventory_released(order))
        for order in orders[:2]:
            stage.deliver("on_payment_voided", payment_voided(order))
        stage.execute("UPDATE outbox SET published_at = now()")
        for order in (orders[0], orders[2]):
            stage.shift(order.id, "updated_at", interval="31 days")

        stage.serve().prune()

        assert stage.published(orders[0].id) == []
        assert len(stage.published(orders[1].id)) == 2, "settled a moment ago"
        assert len(stage.published(orders[2].id)) == 2, "never settled"
        with stage.sessions() as session:
            kept = set(session.scalars(select(INBOX.c.order_id)))
        assert kept == {orders[1].id, orders[2].id}

    def test_prune_nothing_the_broker_has_not_taken(self, stage: Stage) -> None:
        """An event that waits is not evidence yet."""
        order = stage.keep(an_order(OrderStatus.SHIPPED))
        stage.serve(STAFF).deliver_order(str(order.id))
        stage.shift(order.id, "updated_at", interval="31 days")

        stage.serve().prune()

        assert len(stage.published(order.id)) == 1

    def test_prune_keys_and_old_product_changes(self, stage: Stage, customer: Principal) -> None:
        """After a day, and after a month."""
        stage.serve(customer).place_order(a_body(stage.stock().product_id), idempotency_key="k")
        product = a_product()
        change = ProductChangedEvent(
            occurred_at=LATER,
            product_id=product.product_id,
            name="Cup",
            unit_price_cents=1,
            currency="EUR",
            active=True,
            product_version=1,
        )
        stage.deliver("on_product_changed", change)
        stage.serve().prune()
        assert (count(stage, IdempotencyKey), count(stage, INBOX)) == (1, 1)

        stage.execute("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'")
        stage.execute("UPDATE inbox SET handled_at = handled_at - interval '31 days'")
        stage.serve().prune()

        assert (count(stage, IdempotencyKey), count(stage, INBOX)) == (0, 0)
