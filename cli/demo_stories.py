"""What the demo plays: six stories, each with how it must end."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final
from uuid import uuid4

from cli.demo_door import Door, Json, good
from cli.demo_shop import (
    DECLINED,
    OUT_OF_STOCK,
    PAID,
    REFUNDED,
    Shop,
    Told,
    differences,
    facts,
    facts_of,
    place,
    until,
    wish_for,
)


@dataclass
class Story:
    """What was played; ``orders`` are shown in full, ``others`` in a line each."""

    orders: list[Told] = field(default_factory=list)
    others: list[Told] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)

    @property
    def complaints(self) -> list[str]:
        """Everything that is not as it should be."""
        return [*(each for told in (*self.orders, *self.others) for each in told.differs), *self.differs]


def paid(shop: Shop) -> Story:
    """Two of five are bought and paid for."""
    buyer, product = shop.customers[0], shop.stock_up("Teapot", 5)
    order = place(buyer, product, 2)
    told = shop.follow(buyer, order["id"], PAID, f"2 x {product['name']}")
    return Story([told], differs=shop.check_stock(product, 5, 2))


def out_of_stock(shop: Shop) -> Story:
    """Three are wanted of the last one."""
    buyer, product = shop.customers[1], shop.stock_up("Lantern", 1)
    order = place(buyer, product, 3)
    told = shop.follow(buyer, order["id"], OUT_OF_STOCK, f"3 x {product['name']}")
    return Story([told], differs=shop.check_stock(product, 1, 0) + never_charged(told))


def declined(shop: Shop) -> Story:
    """The card has not enough on it."""
    buyer, product = shop.customers[2], shop.stock_up("Armchair", 4)
    order = place(buyer, product, 1, "pm_declined")
    told = shop.follow(buyer, order["id"], DECLINED, f"1 x {product['name']} with a card that is declined")
    return Story([told], differs=shop.check_stock(product, 4, 0))


def refunded(shop: Shop) -> Story:
    """Confirmed and paid, then the customer thinks better of it."""
    buyer, product = shop.customers[3], shop.stock_up("Kettle", 3)
    order_id = place(buyer, product, 2)["id"]
    until(lambda: buyer.get(f"/api/order/{order_id}"), lambda order: facts(order) == facts_of(PAID))
    until(
        lambda: buyer.get(f"/api/order/{order_id}/journey"),
        lambda journey: PAID.mails <= {str(step["note"]).partition(" ")[0] for step in journey["steps"]},
    )
    good(buyer.post(f"/api/order/{order_id}/cancel", {"reason": "It is the wrong colour."}))
    told = shop.follow(buyer, order_id, REFUNDED, f"2 x {product['name']}, and cancels")
    return Story([told], differs=shop.check_stock(product, 3, 0))


def same_key(shop: Shop) -> Story:
    """One order sent twice with the same Idempotency-Key, as a client does that got no answer."""
    buyer, product = shop.customers[4], shop.stock_up("Bicycle", 2)
    wish, key = wish_for(product, 1), str(uuid4())
    first, second = (buyer.ask("POST", "/api/order", wish, key=key) for _ in range(2))
    replayed = second.headers.get("Idempotent-Replayed")
    differs = differences(
        "the second answer",
        {"status": 201, "order": good(first)["id"], "Idempotent-Replayed": "true"},
        {"status": second.status, "order": good(second)["id"], "Idempotent-Replayed": replayed},
    )
    told = shop.follow(buyer, first.json["id"], PAID, f"1 x {product['name']}, twice with the same key")
    remark = "The second request got the first one's answer, marked Idempotent-Replayed: true."
    return Story([told], remarks=[remark], differs=differs + shop.check_stock(product, 2, 1))


def last_unit(shop: Shop) -> Story:
    """Ten customers buy the last one at the same moment."""
    product = shop.stock_up("Painting", 1)
    with ThreadPoolExecutor(len(shop.customers)) as pool:
        orders = list(pool.map(lambda buyer: str(place(buyer, product, 1)["id"]), shop.customers))
    placed = list(zip(shop.customers, orders, strict=True))
    told = []
    for buyer, order_id in placed:
        order = decided(buyer, order_id)
        end = PAID if order["status"] == "Confirmed" else OUT_OF_STOCK
        told.append(shop.follow(buyer, order_id, end, f"1 x {product['name']}"))
    winners = [each for each in told if each.order["status"] == "Confirmed"]
    differs = differences(
        "the race", {"winners": 1, "losers": 9}, {"winners": len(winners), "losers": 10 - len(winners)}
    )
    losers = [each for each in told if each not in winners]
    differs += [complaint for each in losers for complaint in never_charged(each)]
    return Story(winners, losers, differs=differs + shop.check_stock(product, 1, 1))


def decided(buyer: Door, order_id: str) -> Json:
    """The order once it is Pending no more."""
    return until(lambda: buyer.get(f"/api/order/{order_id}"), lambda order: order["status"] != "Pending")


def never_charged(told: Told) -> list[str]:
    """A complaint if the card processor was ever asked about the order."""
    asked = [step for step in told.journey["steps"] if step["event"] == "charge"]
    return [f"{told.buyer} was charged for an order that was out of stock"] if asked else []


STORIES: Final[tuple[tuple[str, Callable[[Shop], Story]], ...]] = (
    ("Paid", paid),
    ("Out of stock", out_of_stock),
    ("Card declined", declined),
    ("Cancelled and refunded", refunded),
    ("The same key twice", same_key),
    ("The last unit, ten buyers", last_unit),
)
