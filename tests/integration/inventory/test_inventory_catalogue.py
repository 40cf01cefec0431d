from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError

from services.chassis import wire
from services.chassis.errors import Conflict, Forbidden, InvalidInput, NotFound
from services.chassis.tags import entity_tag
from services.inventory.seed import SEEDS, seed
from services.inventory.service import product_key
from tests.integration.inventory.bench import LAMP, TYPEWRITER, InventoryBench, an_order
from tests.support.fakes import a_caller


def page_through(inventory: InventoryBench, **query: str) -> list[dict[str, Any]]:
    """Every product of a list, page by page."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = inventory.service().list_products({**query, "cursor": cursor})
        found += page["items"]
        if not page["nextCursor"]:
            return found
        cursor = page["nextCursor"]


class TestSeed:
    """The first catalogue."""

    def test_is_there_once(self, inventory: InventoryBench, database_url: str) -> None:
        """Seeding again changes nothing, and every product was told of once."""
        assert seed(database_url) == 0

        assert inventory.outbox() == ["ProductChangedEvent"] * len(SEEDS)
        assert (inventory.levels(LAMP), inventory.levels(TYPEWRITER)) == ((120, 0), (0, 0))
        inventory.check_books()


class TestReading:
    """What anyone may ask."""

    def test_lists_by_name_page_by_page(self, inventory: InventoryBench) -> None:
        """Nothing twice, nothing left out."""
        names = [product["name"] for product in page_through(inventory, limit="5")]

        assert len(names) == len(SEEDS)
        assert set(names) == {each.name for each in SEEDS}
        assert names == [product["name"] for product in page_through(inventory)]

    @pytest.mark.parametrize(
        ("search", "names"), [("LAMP", ["Desk lamp"]), ("hot-swap", ["Mechanical keyboard"]), ("%", [])]
    )
    def test_finds_a_text_in_name_and_description(
        self, inventory: InventoryBench, search: str, names: list[str]
    ) -> None:
        """In any case, and with no wildcards of its own."""
        assert [product["name"] for product in page_through(inventory, q=search)] == names

    def test_shows_a_product(self, inventory: InventoryBench) -> None:
        """With what is available of it."""
        inventory.deliver(an_order({LAMP: 20}))

        product = inventory.service().get_product(str(LAMP))

        assert (product["name"], product["price"], product["available"]) == ("Desk lamp", Decimal("34.90"), 100)
        assert product["createdAt"].endswith("Z")
        assert set(product) == {
            *("id", "name", "description", "price", "currency", "available", "active", "createdAt", "updatedAt")
        }

    @pytest.mark.parametrize("product_id", [str(uuid4()), "lamp", ""], ids=["unknown", "no id", "empty"])
    def test_knows_no_other(self, inventory: InventoryBench, product_id: str) -> None:
        """An id that is none is as unknown."""
        with pytest.raises(NotFound):
            inventory.service().get_product(product_id)

    def test_describes_those_that_exist(self, inventory: InventoryBench) -> None:
        """For the orders service, in inside names."""
        (described,) = inventory.service().describe_products([str(LAMP), str(uuid4())])

        assert described == {
            "product_id": str(LAMP),
            "name": "Desk lamp",
            "unit_price_cents": 3_490,
            "currency": "EUR",
            "active": True,
            "product_version": 1,
        }


class TestWriting:
    """What administrators and staff may do."""

    def test_makes_and_changes_a_product_and_tells_of_it(self, inventory: InventoryBench) -> None:
        """Each time with a greater version."""
        admin = inventory.service(a_caller("admin"))
        before = len(inventory.outbox())

        made = admin.create_product({"name": "Stool", "price": Decimal("49.90")})
        changed = admin.change_product(made["id"], {"price": 45, "active": False})
        admin.change_product(made["id"], {"price": 45})

        assert (changed["price"], changed["active"], changed["available"]) == (Decimal("45.00"), False, 0)
        rows = inventory.rows("SELECT payload FROM outbox WHERE order_id IS NULL ORDER BY id")[before:]
        told = [wire.decode(row.payload) for row in rows]
        assert [(event["product_id"], event["product_version"]) for event in told] == [(made["id"], 1), (made["id"], 2)]
        assert inventory.copies.invalidated[0] == product_key(UUID(made["id"]))
        assert "Stool" not in [product["name"] for product in page_through(inventory)]

    def test_is_not_for_everyone(self, inventory: InventoryBench) -> None:
        """Products are the administrator's, stock the staff's."""
        customer, staff = inventory.service(a_caller("customer")), inventory.service(a_caller("staff"))

        for service in (customer, staff):
            with pytest.raises(Forbidden):
                service.create_product({"name": "Stool", "price": 1})
            with pytest.raises(Forbidden):
                service.change_product(str(LAMP), {"price": 1})
        with pytest.raises(Forbidden):
            customer.adjust_stock(str(LAMP), {"delta": 1, "reason": "count"})
        with pytest.raises(Forbidden):
            customer.get_stock(str(LAMP), {})

    def test_changes_only_what_the_administrator_knows(self, inventory: InventoryBench) -> None:
        """Over another representation nothing is written, and nothing told; stock is a part of it."""
        admin = inventory.service(a_caller("admin"))
        made = admin.create_product({"name": "Bench", "price": 80})
        seen = entity_tag(wire.encode(admin.get_product(made["id"])))

        changed = admin.change_product(made["id"], {"price": 85}, if_match=seen)
        told = len(inventory.outbox())
        for outdated in (seen, '"nonsense"'):
            with pytest.raises(Conflict, match="precondition_failed"):
                admin.change_product(made["id"], {"price": 1}, if_match=outdated)
        admin.adjust_stock(made["id"], {"delta": 1, "reason": "count"})
        with pytest.raises(Conflict, match="precondition_failed"):
            admin.change_product(made["id"], {"price": 1}, if_match=entity_tag(wire.encode(changed)))

        assert (admin.get_product(made["id"])["price"], len(inventory.outbox())) == (85, told)

    def test_refuses_another_currency(self, inventory: InventoryBench) -> None:
        """A cluster has one."""
        with pytest.raises(InvalidInput):
            inventory.service(a_caller("admin")).create_product({"name": "Stool", "price": 1, "currency": "USD"})


class TestStock:
    """What is on the shelf."""

    def test_is_changed_with_a_reason_and_a_name(self, inventory: InventoryBench) -> None:
        """The ledger shows both, newest first."""
        caller = a_caller("staff")
        staff = inventory.service(caller)

        entry = staff.adjust_stock(str(LAMP), {"delta": -20, "reason": "broken"})
        stock = staff.get_stock(str(LAMP), {"limit": "1"})
        rest = staff.get_stock(str(LAMP), {"cursor": stock["nextCursor"]})

        assert (entry["kind"], entry["delta"], entry["onHandAfter"], entry["reservedAfter"]) == (
            "adjusted",
            -20,
            100,
            0,
        )
        assert (entry["actor"], entry["reason"]) == (str(caller.user_id), "broken")
        assert stock["ledger"] == [entry]
        assert [each["kind"] for each in rest["ledger"]] == ["received"]
        assert (stock["onHand"], stock["reserved"], stock["available"]) == (100, 0, 100)
        inventory.check_books()

    def test_never_falls_below_what_is_set_aside(self, inventory: InventoryBench) -> None:
        """The refusal says how much there is."""
        inventory.deliver(an_order({LAMP: 100}))
        staff = inventory.service(a_caller("staff"))

        with pytest.raises(Conflict) as refused:
            staff.adjust_stock(str(LAMP), {"delta": -21, "reason": "count"})

        assert refused.value.code == "insufficient_stock"
        assert refused.value.extra == {"onHand": 120, "reserved": 100, "available": 20}
        assert inventory.levels(LAMP) == (120, 100)

    def test_of_an_unknown_product_is_not_found(self, inventory: InventoryBench) -> None:
        """Rather than a conflict."""
        with pytest.raises(NotFound):
            inventory.service(a_caller("staff")).adjust_stock(str(uuid4()), {"delta": 1, "reason": "count"})

    def test_adds_up_when_many_change_it_at_once(self, inventory: InventoryBench) -> None:
        """People and orders alike."""
        staff = inventory.service(a_caller("staff"))

        with ThreadPoolExecutor(8) as pool:
            changes = [pool.submit(staff.adjust_stock, str(LAMP), {"delta": 3, "reason": "count"}) for _ in range(20)]
            orders = [pool.submit(inventory.deliver, an_order({LAMP: 2})) for _ in range(20)]
        for done in (*changes, *orders):
            done.result()

        assert inventory.levels(LAMP) == (180, 40)
        inventory.check_books()

    @pytest.mark.parametrize("statement", ["DELETE FROM ledger", "UPDATE ledger SET delta = 1", "TRUNCATE ledger"])
    def test_has_a_ledger_that_nobody_can_change(self, inventory: InventoryBench, statement: str) -> None:
        """The database refuses."""
        with pytest.raises(IntegrityError, match="append-only"), inventory.engine.begin() as connection:
            connection.exec_driver_sql(statement)


class TestJourney:
    """What happened to an order here."""

    def test_is_for_its_customer_and_staff(self, inventory: InventoryBench) -> None:
        """Nobody else learns anything."""
        order = an_order()
        inventory.deliver(order)
        mine = inventory.service(a_caller("customer", order.user_id)).get_journey(str(order.order_id))
        theirs = inventory.service(a_caller("customer")).get_journey(str(order.order_id))
        seen_by_staff = inventory.service(a_caller("staff")).get_journey(str(order.order_id))

        assert [step["event"] for step in mine["steps"]] == ["OrderCreatedEvent", "InventoryReservedEvent"]
        assert mine["steps"][1]["causationId"] == str(order.event_id)
        assert theirs == {"steps": []}
        assert seen_by_staff == mine
