"""Mistakes in orders: who decides, by which state, by whose clock, and how often."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

MODELS: Final = "services/orders/models.py"
PRICING: Final = "services/orders/pricing.py"
REPOSITORY: Final = "services/orders/repository.py"
SAGA_STEPS: Final = "services/orders/saga_steps.py"
SERVICE: Final = "services/orders/service.py"

STEPS: Final = "tests/integration/orders/test_order_steps.py::TestSagaSteps"
QUERIES: Final = "tests/integration/orders/test_order_repository.py"
KEYS: Final = "tests/integration/orders/test_order_service.py::TestIdempotency"
MODEL: Final = "tests/unit/orders/test_order_model.py"

MUTANTS: Final = (
    Mutant(
        name="check-then-write",
        mistake="An order is read without a lock, judged, and then written.",
        cost="A cancellation overwrites what a payment has decided meanwhile.",
        killer=f"{STEPS}::test_are_waited_for_by_a_person",
        edits=(Edit(REPOSITORY, "visible_to, lock=True)", "visible_to, lock=False)"),),
        is_refused=True,  # a history has one entry for each version
    ),
    Mutant(
        name="no-compare-and-set",
        mistake="A saga step changes an order in whatever status it finds it.",
        cost="A payment that comes late confirms an order that was cancelled.",
        killer=f"{STEPS}::test_do_exactly_what_the_model_does[PaymentProcessedEvent-Cancelled]",
        edits=(
            Edit(
                SAGA_STEPS,
                '_one_of(_ORDERS.c.status, "sources"), *conditions)',
                'bindparam("sources", type_=ARRAY(Text)).is_not(None), *conditions)',
            ),
        ),
        is_refused=True,  # nothing is Confirmed that says why it was cancelled
    ),
    Mutant(
        name="any-sum-confirms",
        mistake="An order is confirmed without looking at how much was paid.",
        cost="Whoever forges an event, or errs by a digit, buys everything for a cent.",
        killer=f"{STEPS}::test_confirm_nothing_for_another_sum[other0]",
        edits=(
            Edit(
                SAGA_STEPS,
                '_ORDERS.c.total_cents == bindparam("paid_cents")',
                'bindparam("paid_cents", type_=_ORDERS.c.total_cents.type).is_not(None)',
            ),
        ),
    ),
    Mutant(
        name="settlement-under-the-old-event-id",
        mistake="A cancellation that is told again carries the id it had the first time.",
        cost="Every inbox knows it already: whoever missed the first gives nothing back, ever.",
        killer=f"{MODEL}::TestSettling::test_is_asked_for_again_under_a_new_id",
        edits=(
            Edit(MODELS, "    PaymentVoidedEvent,\n)\n", "    PaymentVoidedEvent,\n    outcome_id,\n)\n"),
            Edit(
                MODELS,
                "**self._about(now), reason=reason,",
                '**self._about(now), event_id=outcome_id(self.id, "OrderCancelledEvent"), reason=reason,',
            ),
        ),
    ),
    Mutant(
        name="deadline-by-local-clock",
        mistake="Deadlines are set and judged by the clock of whichever process is at it.",
        cost="An instance whose clock is ahead cancels orders that customers are paying for.",
        killer=f"{QUERIES}::TestDeadline::test_comes_neither_sooner_nor_later_where_a_clock_is_wrong",
        edits=(
            Edit(REPOSITORY, "from datetime import datetime,", "from datetime import UTC, datetime,"),
            Edit(REPOSITORY, "order.deadline_at = func.now() + ", "order.deadline_at = datetime.now(UTC) + "),
            Edit(REPOSITORY, "Order.deadline_at <= func.now()", "Order.deadline_at <= datetime.now(UTC)"),
        ),
    ),
    Mutant(
        name="idempotency-key-ignored",
        mistake="Nobody looks whether the key was used before.",
        cost="A customer whose connection broke, and who tries again, has bought everything twice.",
        killer=f"{KEYS}::test_holds_when_the_process_dies_with_the_order",
        edits=(Edit(SERVICE, "first = answers.find_answer(request)", "first = None"),),
    ),
    Mutant(
        name="idempotency-key-not-held",
        mistake="A key is looked up without holding it for whoever comes at the same moment.",
        cost="Two clicks at once find no answer, both.",
        killer=f"{KEYS}::test_is_in_use_until_the_first_request_has_committed",
        edits=(
            Edit(
                REPOSITORY,
                "if not self.session.scalar(select(func.pg_try_advisory_xact_lock(request.lock))):",
                "if not request.lock:",
            ),
        ),
    ),
    Mutant(
        name="idempotency-outside-the-transaction",
        mistake="The order is committed first, and then the answer under its key.",
        cost="A process that dies between the two has placed an order that the next try places again.",
        killer=f"{KEYS}::test_holds_when_the_process_dies_with_the_order",
        edits=(
            Edit(
                SERVICE,
                "        view = view_for(self.caller, act())\n",
                "        view = view_for(self.caller, act())\n        work.session.commit()\n",
            ),
        ),
    ),
    Mutant(
        name="product-version-not-compared",
        mistake="Whatever is told of a product last is believed.",
        cost="A message that was overtaken brings back last week's price.",
        killer=f"{QUERIES}::TestCatalogue::test_takes_over_only_what_is_newer",
        edits=(Edit(REPOSITORY, "set_=changes, where=newer))", "set_=changes))"),),
    ),
    Mutant(
        name="price-of-the-client",
        mistake="A price that the client sends is taken for the price.",
        cost="Everybody pays what they like.",
        killer=f"{MODEL}::TestPricing::test_refuses_a_price_that_is_no_longer_true",
        edits=(
            Edit.drop(PRICING, "        self._require_expected_prices(products)\n"),
            Edit(
                PRICING,
                "_line(products[line.product_id], line.quantity) for",
                "_line(products[line.product_id], line.quantity, min(line.guards, default=-1)) for",
            ),
            Edit(
                PRICING,
                "def _line(product: Product, quantity: int) -> OrderLine:",
                "def _line(product: Product, quantity: int, guard: int = -1) -> OrderLine:",
            ),
            Edit(
                PRICING,
                "        unit_price_cents=product.unit_price_cents,\n",
                "        unit_price_cents=product.unit_price_cents if guard < 0 else guard,\n",
            ),
        ),
    ),
    Mutant(
        name="orders-of-others",
        mistake="Whoever knows an order's id may see it, and cancel it.",
        cost="One customer reads the addresses of all.",
        killer=f"{QUERIES}::TestGetting::test_shows_an_order_to_its_owner_and_to_staff_only",
        edits=(Edit(REPOSITORY, "query = query.where(Order.user_id == visible_to.user_id)", "query = query.where()"),),
    ),
)
