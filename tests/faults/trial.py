"""What is asked of a cluster while something in it is broken, and what it must have come to when all is well again."""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, Final
from uuid import uuid4

from cli.readiness import direct_session
from cli.servers.programs import wait_until
from tests.support.client import PASSWORD, Client, a_wish
from tests.support.cluster import Cluster
from tests.support.evidence import mails
from tests.support.operator import Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually

ANSWER_SECONDS: Final = 6.0
"""All calls of one request together have five; when they end in silence the broker is asked for half a second more."""

PROBE_SECONDS: Final = 3.0
"""Readiness asks everything at once for two seconds, after whoever asked just before."""

TURNS: Final = 10
"""So many times a process has to wait for the processor before it has answered."""

STOCK: Final = 900
"""Enough for half a minute of one order after the other."""

AGAIN_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.3
LONGEST_ANSWER_SECONDS: Final = 60.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """One request at the door, and how one knows that its answer is right."""

    name: str
    method: str
    path: str
    is_right: Callable[[Json], bool]
    body: object = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Answer:
    """What came of a question, and after how long."""

    question: Question
    status: int
    headers: Mapping[str, str]
    document: Json
    seconds: float

    @property
    def complaint(self) -> str:
        """What is wrong with it: it must be right, or a refusal for now that says when to come again."""
        if self.status < 300:
            return "" if self.question.is_right(self.document) else f"{self.question.name}: wrong: {self.document}"
        told = self.status in (503, 504) and self.headers.get("Retry-After", "0").isdecimal()
        if told and self.headers["Content-Type"] == "application/problem+json":
            return ""
        return f"{self.question.name}: {self.status} {dict(self.headers)} {self.document}"


class Watch:
    """Looks at the probes of every process all the time; how late it wakes itself tells how busy the machine is."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.said: dict[str, list[str]] = {instance: [] for instance in cluster.children}
        self.complaints: list[str] = []
        self.slowest_health = 0.0
        self.slowest_readiness = 0.0
        self.latest_waking = 0.0
        self._over = Event()

    @property
    def allowance(self) -> float:
        """What the machine's own business may add to a deadline; nothing under test has a part in it."""
        return 1.0 + TURNS * self.latest_waking

    def look(self, instance: str) -> None:
        """Until the watch ends."""
        url = self.cluster.url_of(instance)
        with direct_session() as http:
            while not self._waits():
                began = time.monotonic()
                health = http.get(f"{url}/healthz", timeout=LONGEST_ANSWER_SECONDS)
                alive_after = time.monotonic()
                readiness = http.get(f"{url}/readyz", timeout=LONGEST_ANSWER_SECONDS)
                self.slowest_health = max(self.slowest_health, alive_after - began)
                self.slowest_readiness = max(self.slowest_readiness, time.monotonic() - alive_after)
                self.said[instance].append(readiness.json()["status"])
                if health.status_code != 200:
                    self.complaints.append(f"{instance} said of its health: {health.status_code}")

    def _waits(self) -> bool:
        """Whether the watch has ended; looks after a short wait, and notes by how much that was too long."""
        began = time.monotonic()
        over = self._over.wait(LOOK_SECONDS)
        self.latest_waking = max(self.latest_waking, time.monotonic() - began - LOOK_SECONDS)
        return over

    def until(self, instance: str, status: str) -> None:
        """Wait until the process says so of itself; fails with what it said instead."""
        said = self.said[instance]
        assert wait_until(lambda: status in said, seconds=AGAIN_SECONDS), f"{instance} never was {status}: {said}"

    def check(self) -> None:
        """Everybody was alive, and nobody's probes were waited for too long."""
        assert self.complaints == []
        assert self.slowest_health < PROBE_SECONDS + self.allowance
        assert self.slowest_readiness < PROBE_SECONDS + self.allowance

    @contextmanager
    def on(self) -> Iterator["Watch"]:
        """While the block runs."""
        threads = [Thread(target=self.look, args=(instance,), daemon=True) for instance in self.said]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()


class Trial:
    """One customer with orders under way, from before something breaks until after it is mended."""

    def __init__(self, cluster: Cluster, admin: Client, operator: Operator) -> None:
        self.cluster = cluster
        self.operator = operator
        self.customer = Client.register(cluster.url)
        self.product = admin.add_product(stock=STOCK)
        self.settled = self.customer.place(self.product)
        self.customer.wait_for(self.settled, "Confirmed")
        self.pids = cluster.pids
        self.placed: dict[str, str] = {}
        self.ends = self._begin()

    def _begin(self) -> dict[str, str]:
        """Orders on their way to each end, and where that is."""
        place, product = self.customer.place, self.product
        ends = {place(product, method="pm_slow"): "Confirmed", place(product, method="pm_ok"): "Confirmed"}
        ends |= {place(product, method="pm_declined"): "Cancelled", place(product, quantity=STOCK + 1): "Cancelled"}
        taken_back = place(product, method="pm_slow")
        self.customer.cancel(taken_back)
        return {**ends, taken_back: "Cancelled"}

    def questions(self) -> list[Question]:
        """Something that each service answers; placing an order has a key of its own each time."""
        key, customer = str(uuid4()), self.customer
        credentials = {"email": customer.email, "password": PASSWORD}
        return [
            Question("me", "GET", "/api/auth/me", lambda user: user["id"] == customer.user_id),
            Question("login", "POST", "/api/auth/login", lambda it: it["userId"] == customer.user_id, credentials),
            Question("products", "GET", "/api/inventory/products", lambda page: bool(page["items"])),
            Question("product", "GET", f"/api/inventory/products/{self.product}", lambda it: it["id"] == self.product),
            Question("order", "GET", f"/api/order/{self.settled}", lambda it: it["id"] == self.settled),
            Question("journey", "GET", f"/api/order/{self.settled}/journey", lambda it: bool(it["steps"])),
            Question("orders", "GET", "/api/order", lambda page: bool(page["items"])),
            Question(
                "place",
                "POST",
                "/api/order",
                lambda order: self.placed.setdefault(key, order["id"]) == order["id"],
                a_wish(self.product),
                {"Idempotency-Key": key},
            ),
        ]

    def knock(self, *urls: str) -> list[Answer]:
        """The answers to all questions at all these doors at once."""
        asked = [(url, question) for url in urls for question in self.questions()]
        with ThreadPoolExecutor(len(asked)) as pool:
            return list(pool.map(lambda each: self._ask(*each), asked))

    def _ask(self, url: str, question: Question) -> Answer:
        headers = {"Authorization": str(self.customer.http.headers["Authorization"]), **(question.headers or {})}
        with direct_session() as http:
            began = time.monotonic()
            answer = http.request(
                question.method,
                url + question.path,
                json=question.body,
                headers=headers,
                timeout=LONGEST_ANSWER_SECONDS,
            )
            seconds = time.monotonic() - began
        return Answer(question, answer.status_code, answer.headers, answer.json(), seconds)

    # --- afterwards

    def recovers(self) -> float:
        """The seconds until every service is ready and an order gets through all of them, without a restart."""
        began = time.monotonic()
        self.cluster.wait_ready(seconds=AGAIN_SECONDS)
        order_id = eventually(self._place, "an order is taken again", AGAIN_SECONDS)
        self.customer.wait_for(order_id, "Confirmed", seconds=AGAIN_SECONDS)
        took = time.monotonic() - began
        eventually(lambda: len(mails(self.cluster, order_id)) == 2, "its mails", AGAIN_SECONDS)
        assert self.cluster.pids == self.pids
        return took

    def _place(self) -> str:
        answer = self.customer.ask("POST", "/api/order", a_wish(self.product))
        return str(answer.json()["id"]) if answer.status_code == 201 else ""

    def ends_well(self) -> None:
        """Every order is where it belongs, nothing was given up, and a key stands for one order."""
        come_to_rest(self.cluster, self.operator, seconds=AGAIN_SECONDS + 30)
        for order_id, status in self.ends.items():
            assert self.customer.order(order_id)["status"] == status
        for key, order_id in self.placed.items():
            assert self.customer.place(self.product, key=key) == order_id
        assert self.operator.dead_letters() == []


def check_answers(answers: list[Answer], watch: Watch) -> float:
    """The seconds that the slowest took; fails with whatever is wrong with them, being late included."""
    wrong = [answer.complaint for answer in answers if answer.complaint]
    allowed = ANSWER_SECONDS + watch.allowance
    wrong += [f"{each.question.name}: {each.seconds:.1f} s" for each in answers if each.seconds > allowed]
    assert wrong == []
    return max(answer.seconds for answer in answers)
