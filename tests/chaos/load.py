"""Customers who buy at a steady rate, and staff who ship: through every door, again and again until they are answered.

Everything that can be chosen is chosen from the seed and the order's number. What was promised with a 2xx is written
down in a :class:`Book`.
"""

from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random, uniform
from typing import Any, Final

import psycopg2

from cli.trouble import Trouble
from tests.chaos.diary import Diary
from tests.chaos.door import Answer, Door
from tests.chaos.ground import Ground
from tests.chaos.lives import Life, Lives
from tests.support.client import PASSWORD, Client, a_wish
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD

THREADS: Final = 128
CUSTOMERS: Final = 6
AMPLE, SCARCE = 4, 3
AMPLE_STOCK, SCARCE_STOCK = 100_000, 5
AGAIN_SECONDS, LONGEST_SECONDS = 0.5, 8.0
"""Until the first try that came to nothing is repeated; doubles with each, up to the second figure."""

REFILL_SECONDS, BROWSE_SECONDS, NEWCOMER_SECONDS = 3.0, 1.0, 5.0

METHODS: Final = {
    "pm_ok": 50,
    "pm_slow": 14,
    "pm_declined": 10,
    "pm_error_then_ok": 8,
    "pm_duplicate": 8,
    "pm_fraud": 5,
    "pm_timeout": 5,
}
FATES: Final = {"keep": 25, "send": 25, "cancel": 25, "repeat": 15, "expire": 10}
"""What becomes of an order that was placed, if the saga does not decide otherwise."""


@dataclass
class Book:
    """What the load was promised."""

    wished: int = 0
    orders: dict[str, str] = field(default_factory=dict)
    """The order's id by the key it was placed with."""
    statuses: dict[str, str] = field(default_factory=dict)
    """The last status an order was answered to have got by what was asked for."""
    at_first_try: int = 0
    longest: float = 0.0
    """The most seconds from a wish to its order."""


@dataclass(frozen=True)
class Person:
    """Somebody with a token."""

    token: str

    @classmethod
    def of(cls, client: Client) -> "Person":
        """The same person as at one gateway."""
        return cls(str(client.http.headers["Authorization"]).removeprefix("Bearer "))


class Load:
    """Every customer and the staff; ``rate`` orders a second."""

    def __init__(self, ground: Ground, door: Door, diary: Diary, seed: int, rate: float) -> None:
        self.ground = ground
        self.door = door
        self.diary = diary
        self.seed = seed
        self.rate = rate
        self.book = Book()
        self.lives = Lives(THREADS, diary.wrong)
        self.closed = False
        admin = Client.login(ground.cluster.url, ADMIN_EMAIL, ADMIN_PASSWORD)
        self.staff = Person.of(admin)
        self.customers = [Person.of(Client.register(ground.cluster.url)) for _ in range(CUSTOMERS)]
        self.ample = [admin.add_product(stock=AMPLE_STOCK, price=21.0 + each) for each in range(AMPLE)]
        self.scarce = [admin.add_product(stock=SCARCE_STOCK, price=77.0 + each) for each in range(SCARCE)]

    def begin(self) -> None:
        """Everybody at it."""
        for life in (self.come_in(), self.refill(), self.browse(), self.newcomers()):
            self.lives.begin(life)

    def close(self) -> None:
        """Nobody wishes for anything new; whoever waits for an answer goes on asking."""
        self.closed = True

    # --- whoever goes on until the end

    def come_in(self) -> Life:
        """One more customer at every tick of a steady clock."""
        begin = self.diary.seconds
        while not self.closed:
            self.book.wished += 1
            self.lives.begin(self.buy(self.book.wished))
            yield max(0.0, begin + self.book.wished / self.rate - self.diary.seconds)

    def refill(self) -> Life:
        """A few more of what is scarce; a try without an answer may have been done, and is let be."""
        chance = Random(f"{self.seed} refill")
        while not self.closed:
            path = f"/api/inventory/products/{chance.choice(self.scarce)}/stock"
            body = {"delta": chance.randint(1, 3), "reason": "refill"}
            answer = self.door.ask("refill", "POST", path, token=self.staff.token, body=body)
            self.expect(answer, "refill", "201")
            yield REFILL_SECONDS

    def browse(self) -> Life:
        """Somebody without an account looks at the catalogue."""
        while not self.closed:
            self.expect(self.door.ask("browse", "GET", "/api/inventory/products"), "browse", "200")
            yield BROWSE_SECONDS

    def newcomers(self) -> Life:
        """A new customer now and then, who buys from then on."""
        number = 0
        while not self.closed:
            number += 1
            self.lives.begin(self.register(f"newcomer-{self.seed}-{number}@example.com"))
            yield NEWCOMER_SECONDS

    def register(self, email: str) -> Life:
        """Make an account, or find that an earlier try had made it."""
        account = {"email": email, "password": PASSWORD}
        answer = yield from self.insist("register", "POST", "/api/auth/register", body=account)
        if answer.outcome.startswith("409"):
            answer = yield from self.insist("login", "POST", "/api/auth/login", body=account)
        if self.expect(answer, f"register {email}", "201", "200"):
            self.customers.append(Person(answer.document["token"]))

    # --- an order's life

    def buy(self, number: int) -> Life:
        """Place an order, and do with it what its number says."""
        chance = Random(f"{self.seed} {number}")
        key = f"order-{self.seed}-{number}"
        customer = chance.choice(self.customers[:CUSTOMERS]) if number % 5 else self.customers[-1]
        began = self.diary.seconds
        order = {**self.wish(chance), "shippingAddress": key}
        placed = yield from self.insist("place", "POST", "/api/order", token=customer.token, key=key, body=order)
        if not self.expect(placed, f"place {key}", "201"):
            return
        order_id = self.book.orders[key] = placed.document["id"]
        self.book.longest = max(self.book.longest, self.diary.seconds - began)
        self.book.at_first_try += placed.tries == 1
        fate: Callable[..., Life] = getattr(self, chance.choices(list(FATES), list(FATES.values()))[0])
        yield chance.uniform(0, 3)
        yield from fate(order_id=order_id, customer=customer, key=key, order=order)

    def wish(self, chance: Random) -> dict[str, Any]:
        """What somebody wants: one to three products, a scarce one in every third order."""
        wanted = chance.sample(self.ample, chance.randint(1, 2))
        if chance.random() < 1 / 3:
            wanted.append(chance.choice(self.scarce))
        method = chance.choices(list(METHODS), list(METHODS.values()))[0]
        chance.shuffle(wanted)
        return a_wish(*wanted, quantity=chance.randint(1, 2), method=method)

    def keep(self, order_id: str, customer: Person, **_: Any) -> Life:
        """Look at it once."""
        found = yield from self.insist("read", "GET", f"/api/order/{order_id}", token=customer.token)
        self.expect(found, f"read {order_id}", "200")

    def cancel(self, order_id: str, customer: Person, key: str, **_: Any) -> Life:
        """Think better of it; nobody ships these."""
        path = f"/api/order/{order_id}/cancel"
        found = yield from self.insist("cancel", "POST", path, token=customer.token, key=f"{key}-cancel", body={})
        self.promised(found, order_id, "Cancelled")

    def send(self, order_id: str, **_: Any) -> Life:
        """Ship it once it is confirmed, and deliver it."""
        path = f"/api/order/{order_id}"
        while True:
            found = yield from self.insist("read", "GET", path, token=self.staff.token)
            if not self.expect(found, f"read {order_id}", "200") or found.document["status"] == "Cancelled":
                return
            if found.document["status"] == "Confirmed":
                break
            yield AGAIN_SECONDS
        for act, status in (("ship", "Shipped"), ("deliver", "Delivered")):
            done = yield from self.insist(act, "POST", f"{path}/{act}", token=self.staff.token)
            self.promised(done, order_id, status)

    def repeat(self, order_id: str, customer: Person, key: str, order: object) -> Life:
        """Ask for it once more with the same key, as a client does whose answer was lost."""
        placed = yield from self.insist("repeat", "POST", "/api/order", token=customer.token, key=key, body=order)
        if self.expect(placed, f"repeat {key}", "201") and placed.document["id"] != order_id:
            self.diary.wrong(f"{key} is order {order_id} and then order {placed.document['id']}")

    def expire(self, order_id: str, **_: Any) -> Life:
        """Let its time be up, whatever it is doing; when the database is away it has more time."""
        with suppress(Trouble, psycopg2.Error):
            self.ground.cluster.expire(order_id)
        yield from ()

    # --- asking

    def insist(self, what: str, method: str, path: str, **request: Any) -> Generator[float, None, Answer]:
        """The first answer that is more than a passing failure; asked for as a polite client does, which backs off."""
        tries = 0
        while True:
            tries += 1
            answer = self.door.ask(what, method, path, **request)
            if answer.is_final:
                return replace(answer, tries=tries)
            yield max(answer.retry_after, min(LONGEST_SECONDS, AGAIN_SECONDS * 2 ** (tries - 1)) * uniform(0.5, 1))

    def expect(self, answer: Answer, what: str, *outcomes: str) -> bool:
        """Whether it is one of these; any other final answer is wrong."""
        if answer.outcome in outcomes:
            return True
        if answer.is_final:
            self.diary.wrong(f"{what} was answered {answer.outcome}: {answer.document}")
        return False

    def promised(self, answer: Answer, order_id: str, status: str) -> None:
        """Write down that the order has this status, which must be the answer."""
        if self.expect(answer, f"{status} for {order_id}", "200"):
            if answer.document["status"] != status:
                self.diary.wrong(f"order {order_id} was to be {status}, the answer says {answer.document['status']}")
            self.book.statuses[order_id] = answer.document["status"]
