"""The contract's examples, asked of the running system: every answer is one that the OpenAPI document promises."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final

import pytest
import requests

from services.chassis import wire
from tests.support.client import PASSWORD, Client, Json
from tests.support.cluster import Cluster
from tests.support.contract import Contract, Operation, read
from tests.support.until import eventually

CONTRACT: Final = Contract(read("openapi.json"))
OPERATIONS: Final = [*CONTRACT.operations()]
EACH: Final = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
UNKNOWN: Final = "00000000-0000-4000-8000-000000000000"
FRESH: Final = count(1)
MOST_CHANGES: Final = 10

TAKES_A_BODY: Final = [each for each in OPERATIONS if "requestBody" in each.said]
HAS_A_QUERY: Final = [each for each in OPERATIONS if any(p.get("in") == "query" for p in each.said["parameters"])]
HAS_AN_ID: Final = [each for each in OPERATIONS if "{" in each.path]
IS_CLOSED: Final = [each for each in OPERATIONS if each.is_closed]
NEEDS_A_ROLE: Final = [each for each in OPERATIONS if "403" in each.said["responses"]]


def some(operations: list[Operation]) -> pytest.MarkDecorator:
    """A test for each of these operations."""
    return pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.name)


class Stage:
    """Things for the examples to be about: in the examples' own words, with ids that there are."""

    def __init__(self, cluster: Cluster, admin: Client) -> None:
        self.url = cluster.url
        self.admin = admin
        self.password: Final = PASSWORD

    def person(self) -> Client:
        """Somebody new."""
        return Client.register(self.url)

    def lamp(self) -> str:
        """A product with what the examples expect of it: its price, and enough of it."""
        return self.admin.add_product(stock=50, price=34.9)

    def order_in(self, status: str, owner: Client) -> str:
        """An order of theirs that has come so far."""
        order_id = owner.place(self.lamp())
        if status != "Pending":
            owner.wait_for(order_id, "Confirmed")
        if status in {"Shipped", "Delivered"}:
            self.admin.ship(order_id)
        if status == "Delivered":
            self.admin.deliver(order_id)
        return order_id

    def set_for(self, operation: Operation, example: str | None = None) -> "Setting":
        """What the example, or the first one, needs to be about something."""
        return SETTINGS[operation.name](self, example_of(operation, example))

    def ask(self, who: Client, operation: Operation, body: Any, ids: Mapping[str, str]) -> requests.Response:
        """The answer to one request of the document."""
        path = operation.path.format(**ids)
        headers = {"Idempotency_Key": f"example-{next(FRESH)}"} if takes(operation, "Idempotency-Key") else {}
        return who.ask(operation.method, path, body, **headers)


def example_of(operation: Operation, name: str | None = None) -> Any:
    """The example of that name, or the first, as a client sends it."""
    examples = operation.examples
    return json.loads(wire.encode(examples[name or next(iter(examples))]))


def takes(operation: Operation, header: str) -> bool:
    """Whether the request header means something to the operation."""
    return {"$ref": f"#/components/parameters/{header}"} in operation.said["parameters"]


@pytest.fixture(scope="module")
def stage(cluster: Cluster, admin: Client) -> Stage:
    """The running system."""
    return Stage(cluster, admin)


Setting = tuple[Client, Json | None, Mapping[str, str]]
"""Who asks, with which body, about which ids."""


def registering(stage: Stage, body: Any) -> Setting:
    """Under an address that nobody has."""
    return Client(stage.url), {**body, "email": f"example-{next(FRESH)}@example.com"}, {}


def logging_in(stage: Stage, body: Any) -> Setting:
    """As somebody who has an account."""
    return Client(stage.url), {**body, "email": stage.person().email}, {}


def refreshing(stage: Stage, body: Any) -> Setting:
    """With a refresh token that is good."""
    session = stage.person().good("POST", "/api/auth/login", logging_in(stage, {"password": stage.password})[1])
    return Client(stage.url), {"refreshToken": session["refreshToken"]}, {}


def as_a_person(stage: Stage, body: Any) -> Setting:
    """Nothing but a token is needed."""
    return stage.person(), body, {}


def changing_user(stage: Stage, body: Any) -> Setting:
    """Somebody's account, by the administrator."""
    return stage.admin, body, {"userId": stage.person().user_id}


def placing(stage: Stage, body: Any) -> Setting:
    """An order of a product that there is."""
    lamp = stage.lamp()
    return stage.person(), {**body, "items": [{**line, "productId": lamp} for line in body["items"]]}, {}


def with_order(status: str, *, by_owner: bool) -> Callable[[Stage, Any], Setting]:
    """An order in that status, asked about by its owner or by staff."""

    def set_up(stage: Stage, body: Any) -> Setting:
        owner = stage.person()
        return owner if by_owner else stage.admin, body, {"orderId": stage.order_in(status, owner)}

    return set_up


def about_a_product(stage: Stage, body: Any) -> Setting:
    """A product, by the administrator."""
    return stage.admin, body, {"productId": stage.lamp()}


SETTINGS: Final[Mapping[str, Callable[[Stage, Any], Setting]]] = {
    "register": registering,
    "login": logging_in,
    "refresh": refreshing,
    "logout": as_a_person,
    "getMe": as_a_person,
    "changeUser": changing_user,
    "placeOrder": placing,
    "listOrders": as_a_person,
    "getOrder": with_order("Pending", by_owner=True),
    "cancelOrder": with_order("Pending", by_owner=True),
    "shipOrder": with_order("Confirmed", by_owner=False),
    "deliverOrder": with_order("Shipped", by_owner=False),
    "getJourney": with_order("Pending", by_owner=True),
    "streamEvents": with_order("Delivered", by_owner=True),
    "listProducts": about_a_product,
    "getProduct": about_a_product,
    "createProduct": about_a_product,
    "changeProduct": about_a_product,
    "adjustStock": about_a_product,
    "getStock": about_a_product,
}
"""How each operation's examples come to be about something."""

EXAMPLES: Final = [(each, name) for each in OPERATIONS for name in each.examples]


class TestGoodAnswers:
    """What happens when somebody does as the document shows."""

    @pytest.mark.parametrize(("operation", "name"), EXAMPLES, ids=lambda it: getattr(it, "name", it))
    def test_an_example_is_answered_as_promised(self, stage: Stage, operation: Operation, name: str) -> None:
        """The good status, its headers, and a body that has every member and no other."""
        who, body, ids = stage.set_for(operation, name)

        answer = stage.ask(who, operation, body, ids)

        assert answer.status_code == operation.good, answer.text
        assert CONTRACT.broken_by(operation, answer) == []

    @some([each for each in OPERATIONS if "304" in each.said["responses"]])
    def test_what_is_known_is_not_sent_again(self, stage: Stage, operation: Operation) -> None:
        """304 by the ETag of the first answer."""
        who, _, ids = stage.set_for(operation)
        answers = [*until_known(who, operation.path.format(**ids))]

        assert answers[-1].status_code == 304
        assert [broken for each in answers for broken in CONTRACT.broken_by(operation, each)] == []

    @some([each for each in OPERATIONS if takes(each, "Idempotency-Key")])
    def test_a_key_gets_the_first_answer_again(self, stage: Stage, operation: Operation) -> None:
        """With the header that says so; another body is refused."""
        one, two, *_ = operation.examples
        who, body, ids = stage.set_for(operation, one)
        _, other_body, _ = stage.set_for(operation, two)
        path, key = operation.path.format(**ids), f"replayed-{next(FRESH)}"

        first, again, other = (
            who.ask(operation.method, path, each, Idempotency_Key=key) for each in (body, body, other_body)
        )

        assert (again.status_code, again.text) == (operation.good, first.text)
        assert again.headers["Idempotent-Replayed"] == "true"
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert [broken for each in (first, again, other) for broken in CONTRACT.broken_by(operation, each)] == []

    @some([each for each in OPERATIONS if takes(each, "If-Match")])
    def test_writes_only_over_what_is_known(self, stage: Stage, operation: Operation) -> None:
        """412 once the thing has changed; nothing is written then, and it may be read and tried again."""
        who, body, ids = stage.set_for(operation)
        path = operation.path.format(**ids)
        thing = path if operation.method == "PATCH" else path.rpartition("/")[0]
        before = at_rest(who, thing)

        refused = who.ask(operation.method, path, body, If_Match='"something-else"')
        unchanged = who.ask("GET", thing)
        done = who.ask(operation.method, path, body, If_Match=before)
        late = who.ask(operation.method, path, body, If_Match=before)

        assert [each.status_code for each in (refused, done, late)] == [412, operation.good, 412]
        assert unchanged.headers["ETag"] == before
        assert [broken for each in (refused, done, late) for broken in CONTRACT.broken_by(operation, each)] == []


def at_rest(who: Client, path: str) -> str:
    """The ETag of the thing once nothing happens to it any more of itself."""

    def look() -> str | None:
        answer = who.ask("GET", path)
        return None if answer.json().get("status") == "Pending" else answer.headers["ETag"]

    return eventually(look, path)


def until_known(who: Client, path: str) -> Iterator[requests.Response]:
    """The answer, and those to asking with its ETag until it is not sent again: the thing may just be changing."""
    answer = who.ask("GET", path)
    yield answer
    for _ in range(MOST_CHANGES):
        answer = who.ask("GET", path, If_None_Match=answer.headers["ETag"])
        yield answer
        if answer.status_code == 304:
            return


class TestRefusals:
    """What happens to who does otherwise."""

    def refused(self, operation: Operation, answer: requests.Response, status: int) -> None:
        """Whether it was refused, and as promised."""
        assert answer.status_code == status, answer.text
        assert CONTRACT.broken_by(operation, answer) == []

    @some(IS_CLOSED)
    def test_without_a_token(self, stage: Stage, operation: Operation) -> None:
        """401."""
        answer = Client(stage.url).ask(operation.method, filled(operation), {})

        self.refused(operation, answer, 401)

    @some(NEEDS_A_ROLE)
    def test_without_the_role(self, stage: Stage, customer: Client, operation: Operation) -> None:
        """403."""
        answer = customer.ask(operation.method, filled(operation), example_of(operation))

        self.refused(operation, answer, 403)

    @some(HAS_AN_ID)
    def test_of_what_there_is_not(self, stage: Stage, operation: Operation) -> None:
        """404, whether the id is one or not."""
        for unknown in (UNKNOWN, "none"):
            answer = stage.admin.ask(operation.method, filled(operation, unknown), example_of(operation))
            self.refused(operation, answer, 404)

    @some(TAKES_A_BODY)
    def test_with_another_body(self, stage: Stage, operation: Operation) -> None:
        """422 for a member that nobody knows, 400 for what is no JSON, 415 for what does not say it is."""
        who, path = stage.admin, filled(operation)

        self.refused(operation, who.ask(operation.method, path, {"surprise": True}), 422)
        for status, kind, body in ((400, "application/json", "{"), (415, "text/plain", "{}")):
            answer = who.http.request(
                operation.method, who.url + path, data=body, headers={"Content-Type": kind}, timeout=15
            )
            self.refused(operation, answer, status)

    @some(HAS_A_QUERY)
    def test_with_another_query(self, stage: Stage, operation: Operation) -> None:
        """422 for what breaks a rule, 400 for what stands twice."""
        _, _, ids = stage.set_for(operation)
        path = operation.path.format(**ids)

        for status, query in ((422, "?limit=0"), (422, "?surprise=1"), (400, "?limit=1&limit=1")):
            self.refused(operation, stage.admin.ask(operation.method, path + query), status)


def filled(operation: Operation, id_: str = UNKNOWN) -> str:
    """The operation's path with this for every id."""
    return operation.path.format(userId=id_, orderId=id_, productId=id_)
