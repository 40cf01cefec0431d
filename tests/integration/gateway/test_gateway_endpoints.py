"""Every endpoint of the gateway, with made-up services behind it."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import requests

from services.chassis.http import HttpEntrypoint
from services.chassis.topology import entrypoints_of
from tests.integration.gateway.door import Door, a_token, check_problem

KNOWN = "11111111-1111-4111-8111-111111111111"
DENIED = UUID("22222222-2222-4222-8222-222222222222")
AWAY = "33333333-3333-4333-8333-333333333333"

OPEN = [
    ("POST", "/api/auth/register", 201, "users.register"),
    ("POST", "/api/auth/login", 200, "users.login"),
    ("POST", "/api/auth/refresh", 200, "users.refresh"),
    ("GET", "/api/inventory/products", 200, "inventory.list_products"),
    ("GET", f"/api/inventory/products/{KNOWN}", 200, "inventory.get_product"),
]
SIGNED_IN = [
    ("GET", "/api/auth/me", 200, "users.get_me"),
    ("PATCH", f"/api/auth/users/{KNOWN}", 200, "users.change_user"),
    ("GET", "/api/order", 200, "orders.list_orders"),
    ("POST", f"/api/order/{KNOWN}/ship", 200, "orders.ship_order"),
    ("POST", f"/api/order/{KNOWN}/deliver", 200, "orders.deliver_order"),
    ("POST", "/api/inventory/products", 201, "inventory.create_product"),
    ("PATCH", f"/api/inventory/products/{KNOWN}", 200, "inventory.change_product"),
    ("POST", f"/api/inventory/products/{KNOWN}/stock", 201, "inventory.adjust_stock"),
    ("GET", f"/api/inventory/products/{KNOWN}/stock", 200, "inventory.get_stock"),
]
FURTHER = [
    ("POST", "/api/auth/logout"),
    ("POST", "/api/order"),
    ("GET", f"/api/order/{KNOWN}"),
    ("POST", f"/api/order/{KNOWN}/cancel"),
    ("GET", f"/api/order/{KNOWN}/journey"),
    ("GET", f"/api/order/{KNOWN}/events"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The gateway; no broker, no Redis, no services."""
    command = ["-m", "nameko", "run", "tests.integration.gateway.fake_peers:FakedGateway", "--config"]
    with Door(tmp_path_factory.mktemp("gateway"), "gateway", command) as door:
        yield door


def ask(
    gateway: Door, method: str, path: str, token: str | None = None, *, body: Any = None, **headers: str
) -> requests.Response:
    """The answer; headers as ``if_none_match="..."``."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    if token:
        fields["Authorization"] = f"Bearer {token}"
    return requests.request(method, gateway.url + path, json=body, headers=fields, timeout=5)


class TestEndpoint:
    """Every route."""

    @pytest.mark.parametrize(("method", "path", "status", "called"), OPEN)
    def test_is_open_where_no_token_is_needed(
        self, gateway: Door, method: str, path: str, status: int, called: str
    ) -> None:
        """And hands the body to the service as it came."""
        answer = ask(gateway, method, path, body={"any": "thing"} if method == "POST" else None)

        assert (answer.status_code, answer.json()["called"]) == (status, called)
        if method == "POST":
            assert answer.json()["with"] == [{"any": "thing"}]

    @pytest.mark.parametrize(("method", "path", "status", "called"), SIGNED_IN)
    def test_calls_its_service(self, gateway: Door, method: str, path: str, status: int, called: str) -> None:
        """With the id from the path and the body or the query."""
        body = None if method == "GET" else {"any": "thing"}

        answer = ask(gateway, method, path, a_token(), body=body)

        assert (answer.status_code, answer.json()["called"]) == (status, called)
        if KNOWN in path:
            assert answer.json()["with"][0] == KNOWN

    @pytest.mark.parametrize(("method", "path"), [*((method, path) for method, path, _, _ in SIGNED_IN), *FURTHER])
    def test_is_closed_to_who_is_not_signed_in(self, gateway: Door, method: str, path: str) -> None:
        """Without a token, with an expired one, with one that was taken back, with another scheme."""
        nobody = ask(gateway, method, path)
        expired = ask(gateway, method, path, a_token(expires_in=-30))
        denied = ask(gateway, method, path, a_token(DENIED))
        basic = ask(gateway, method, path, authorization="Basic YTpi")

        for answer in (nobody, expired, denied, basic):
            check_problem(answer.json(), 401, answer.headers)
        assert nobody.headers["WWW-Authenticate"] == basic.headers["WWW-Authenticate"] == 'Bearer realm="oms"'
        assert 'error="invalid_token"' in expired.headers["WWW-Authenticate"]
        assert [answer.json()["code"] for answer in (expired, denied)] == ["token_expired", "token_revoked"]

    def test_list_is_complete(self, gateway: Door) -> None:
        """Whoever adds a route decides here whether it is open."""
        from gateway import GatewayService  # noqa: PLC0415 - only this test looks at the class

        routes = [each for _, each in entrypoints_of(GatewayService) if isinstance(each, HttpEntrypoint)]

        assert len(routes) == len(OPEN) + len(SIGNED_IN) + len(FURTHER)

    @pytest.mark.parametrize("path", ["/api/order/1", "/api/order/x/journey", "/api/inventory/products/null"])
    def test_is_404_for_an_id_that_is_none(self, gateway: Door, path: str) -> None:
        """No service is asked."""
        answer = ask(gateway, "GET", path, a_token())

        check_problem(answer.json(), 404, answer.headers)


class TestLogout:
    """Signing out."""

    def test_answers_with_nothing(self, gateway: Door) -> None:
        """204 and no body."""
        answer = ask(gateway, "POST", "/api/auth/logout", a_token())

        assert (answer.status_code, answer.content) == (204, b"")


class TestPlaceOrder:
    """A new order."""

    def test_answers_with_where_the_order_is(self, gateway: Door) -> None:
        """201, Location, ETag."""
        answer = ask(gateway, "POST", "/api/order", a_token(), body={"items": []}, idempotency_key="first")

        assert (answer.status_code, answer.headers["Location"]) == (201, f"/api/order/{KNOWN}")
        assert answer.json() == {"id": KNOWN, "status": "Pending", "body": {"items": []}, "key": "first"}
        assert answer.headers["ETag"]
        assert "Idempotent-Replayed" not in answer.headers

    def test_says_when_it_is_the_first_answer_again(self, gateway: Door) -> None:
        """Same status and place."""
        answer = ask(gateway, "POST", "/api/order", a_token(), body={}, idempotency_key="again")

        assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (201, "true")

    def test_refuses_a_key_that_is_none(self, gateway: Door) -> None:
        """Rather than place an order twice."""
        answer = ask(gateway, "POST", "/api/order", a_token(), body={}, idempotency_key="k" * 256)

        check_problem(answer.json(), 400, answer.headers)


class TestCancelOrder:
    """The end of an order."""

    def test_takes_a_reason_or_nothing(self, gateway: Door) -> None:
        """The body may be left out."""
        with_reason = ask(gateway, "POST", f"/api/order/{KNOWN}/cancel", a_token(), body={"reason": "late"})
        without = ask(gateway, "POST", f"/api/order/{KNOWN}/cancel", a_token())

        assert with_reason.json()["body"] == {"reason": "late"}
        assert (without.status_code, without.json()["body"]) == (200, {})


class TestGetOrder:
    """One order."""

    def test_answers_304_to_who_has_it(self, gateway: Door) -> None:
        """By the ETag of the first answer."""
        token = a_token()
        tag = ask(gateway, "GET", f"/api/order/{KNOWN}", token).headers["ETag"]

        assert ask(gateway, "GET", f"/api/order/{KNOWN}", token, if_none_match=tag).status_code == 304

    def test_passes_refusals_on(self, gateway: Door) -> None:
        """The service's code and sentence, HTTP's status and headers."""
        unknown = ask(gateway, "GET", f"/api/order/{uuid4()}", a_token())
        away = ask(gateway, "GET", f"/api/order/{AWAY}", a_token())

        check_problem(unknown.json(), 404, unknown.headers)
        assert unknown.json()["code"] == "order_not_found"
        check_problem(away.json(), 503, away.headers)
        assert away.headers["Retry-After"] == "4"


class TestConditionalWrites:
    """Writes over what the client knows."""

    @pytest.mark.parametrize("action", ["ship", "deliver"])
    def test_hand_the_condition_to_the_service(self, gateway: Door, action: str) -> None:
        """Which decides; nobody who says nothing sends one."""
        path = f"/api/order/{KNOWN}/{action}"

        conditional = ask(gateway, "POST", path, a_token(), if_match='"a", W/"b"')
        plain = ask(gateway, "POST", path, a_token())

        assert conditional.json()["named"] == {"if_match": '"a", W/"b"'}
        assert plain.json()["named"] == {}


class TestProducts:
    """The catalogue."""

    def test_may_be_kept_and_asked_about_again(self, gateway: Door) -> None:
        """Public, with an ETag."""
        answer = ask(gateway, "GET", f"/api/inventory/products/{KNOWN}")

        assert answer.headers["Cache-Control"] == "public, no-cache"
        again = ask(gateway, "GET", f"/api/inventory/products/{KNOWN}", if_none_match=answer.headers["ETag"])
        assert again.status_code == 304

    def test_list_takes_the_query_along(self, gateway: Door) -> None:
        """As texts, for the service to judge."""
        answer = ask(gateway, "GET", "/api/inventory/products?q=red+shoes&limit=5")

        assert answer.json()["with"] == [{"q": "red shoes", "limit": "5"}]


class TestJourney:
    """What happened to an order."""

    def test_joins_what_each_service_knows(self, gateway: Door) -> None:
        """Sorted by time; the silent ones are named."""
        journey = ask(gateway, "GET", f"/api/order/{KNOWN}/journey", a_token()).json()

        assert [step["service"] for step in journey["steps"]] == ["orders", "inventory", "orders"]
        assert journey["missing"] == ["payments", "notifications"]
        assert (journey["orderId"], journey["status"]) == (KNOWN, "Pending")

    def test_is_404_when_orders_says_so(self, gateway: Door) -> None:
        """Orders decides who may see it."""
        answer = ask(gateway, "GET", f"/api/order/{uuid4()}/journey", a_token())

        check_problem(answer.json(), 404, answer.headers)
