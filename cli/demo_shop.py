"""The demo's shop: its own products, its customers, and waiting until an order's journey is over."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, Final

from cli.demo_door import Door, Json, good

NAMES: Final = ("Ada", "Ben", "Cleo", "Dana", "Emil", "Fay", "Gus", "Hana", "Ivo", "June")
END_SECONDS: Final = 150.0
"""How long an order may take: longer than every lease and retry that a killed process leaves behind."""

LOOK_SECONDS: Final = 0.25
PRICE: Final = 21.0


@dataclass(frozen=True)
class End:
    """How an order should end; ``reason`` and ``payment`` as the API says them, ``mails`` the kinds of e-mail."""

    status: str
    payment: str
    mails: frozenset[str]
    reason: str | None = None


PAID: Final = End("Confirmed", "Completed", frozenset({"confirmation", "receipt"}))
OUT_OF_STOCK: Final = End("Cancelled", "Voided", frozenset({"closing"}), "out_of_stock")
DECLINED: Final = End("Cancelled", "Failed", frozenset({"closing"}), "payment_failed")
REFUNDED: Final = End("Cancelled", "Refunded", frozenset({"confirmation", "receipt", "closing", "refund"}), "customer")


@dataclass(frozen=True)
class Mail:
    """A message that a customer got."""

    channel: str
    text: str
    to: str = ""


@dataclass
class Told:
    """One order of a story, as it was found in the end, and everything about it that is not as it should be."""

    buyer: str
    wish: str
    order: Json
    journey: Json
    mails: Sequence[Mail]
    differs: list[str] = field(default_factory=list)


class Shop:
    """What all stories share; ``mailbox`` is the folder of the simulated mail when that is on this machine."""

    def __init__(self, url: str, admin: tuple[str, str], mailbox: Path | None, authority: str = "") -> None:
        self.url = url
        self.authority = authority
        self.mailbox = mailbox
        self.admin = Door(url, authority)
        self.admin.log_in(*admin)
        self.customers: list[Door] = []

    def invite(self) -> None:
        """Register the customers, two at a time."""
        with ThreadPoolExecutor(2) as pool:
            self.customers = list(pool.map(self._customer, NAMES))

    def _customer(self, name: str) -> Door:
        door = Door(self.url, self.authority)
        door.join(name)
        return door

    def stock_up(self, name: str, units: int) -> Json:
        """A product of the demo's own with that many on the shelf."""
        unique = f"{name} {secrets.token_hex(3)}"
        path = "/api/inventory/products"
        product = self.admin.post_once(
            path,
            {"name": unique, "price": PRICE, "description": "Made by ./oms demo."},
            lambda: next(iter(self.admin.get(f"{path}?q={unique.replace(' ', '%20')}")["items"]), None),
        )
        stock = f"{path}/{product['id']}/stock"
        self.admin.post_once(
            stock,
            {"delta": units, "reason": "demo"},
            lambda: next(iter(self.admin.get(stock)["ledger"]), None),
        )
        return product

    def check_stock(self, product: Json, on_hand: int, reserved: int) -> list[str]:
        """What is wrong with the levels of the product's stock; waits for them to get right."""
        path, wanted = f"/api/inventory/products/{product['id']}/stock", {"onHand": on_hand, "reserved": reserved}
        found = until(lambda: self.admin.get(path), lambda stock: wanted.items() <= stock.items())
        return differences(f"stock of {product['name']}", wanted, found)

    def follow(self, buyer: Door, order_id: str, end: End, wish: str) -> Told:
        """The order and its journey once it is over, compared with how it should end."""
        path = f"/api/order/{order_id}"
        order = until(lambda: buyer.get(path), lambda order: facts(order) == facts_of(end))
        journey = until(lambda: buyer.get(f"{path}/journey"), lambda journey: is_over(journey, order, end))
        found = sent(journey)
        differs = differences("order", facts_of(end), facts(order))
        differs += differences("mails", {"sent": sorted(end.mails)}, {"sent": sorted(found)})
        if journey["missing"]:
            differs.append(f"the journey lacks the steps of {', '.join(journey['missing'])}")
        return Told(buyer.name, wish, order, journey, self.mails(order_id, journey), differs)

    def mails(self, order_id: str, journey: Json) -> list[Mail]:
        """What the customer got, in the order it was sent: from the mailbox, else as the journey tells it."""
        if self.mailbox is None:
            steps = [step for step in journey["steps"] if step["service"] == "notifications"]
            return [Mail("sent", f"{step['note']} ({step['event']})") for step in steps]
        files = [file for channel in ("email", "sms") for file in (self.mailbox / channel).glob(f"{order_id}.*")]
        return [read_mail(file) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]


def read_mail(file: Path) -> Mail:
    """An e-mail's subject and address, or the whole of an SMS."""
    if file.suffix == ".txt":
        return Mail("SMS", file.read_text().partition("\n\n")[2].strip())
    mail = message_from_bytes(file.read_bytes(), _class=EmailMessage, policy=default)
    return Mail("e-mail", str(mail["Subject"]), str(mail["To"]))


def facts(order: Json) -> Json:
    """What of an order its end says something about."""
    return {"status": order["status"], "reason": order["statusReason"], "payment": order["paymentStatus"]}


def facts_of(end: End) -> Json:
    """The same of the end that it should have."""
    return {"status": end.status, "reason": end.reason, "payment": end.payment}


def sent(journey: Json) -> set[str]:
    """The kinds of mail that were sent."""
    steps = [step for step in journey["steps"] if step["service"] == "notifications" and step["outcome"] == "sent"]
    return {str(step["note"]).partition(" ")[0] for step in steps}


def is_over(journey: Json, order: Json, end: End) -> bool:
    """Whether everybody has told, all mails are out, and a cancelled order has got everything back."""
    owed = journey["waitingFor"] if order["status"] == "Cancelled" else None
    waiting = any(step["outcome"] == "waiting" for step in journey["steps"])
    return not (journey["missing"] or owed or waiting) and end.mails <= sent(journey)


def until(look: Callable[[], Json], wish: Callable[[Json], bool], seconds: float = END_SECONDS) -> Json:
    """What there is once it is as wished, or after that time however it is."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if wish(found) or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_SECONDS)


def differences(of_what: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """A sentence for each value that is not as wanted."""
    return [
        f"{of_what}: {name} should be {value}, but is {found.get(name)}"
        for name, value in wanted.items()
        if found.get(name) != value
    ]


def place(buyer: Door, product: Json, quantity: int, method: str = "pm_ok") -> Json:
    """The new order."""
    return good(buyer.post("/api/order", wish_for(product, quantity, method)))


def wish_for(product: Json, quantity: int, method: str = "pm_ok") -> Json:
    """The body that places an order."""
    return {
        "items": [{"productId": product["id"], "quantity": quantity, "price": product["price"]}],
        "shippingAddress": "1 Demo Street, Sampletown",
        "paymentMethod": method,
    }
