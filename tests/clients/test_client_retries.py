import traceback
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from secrets import token_hex
from typing import Any
from uuid import uuid4

import pytest
import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError
from urllib3.exceptions import InsecureRequestWarning

from oms_client import (
    Client,
    Conflict,
    InvalidInput,
    Line,
    NoAnswer,
    NotReached,
    OmsError,
    Order,
    OrderStatus,
    Problem,
    Retries,
    ServerFault,
    Settings,
    TooManyRequests,
    Unavailable,
    UnexpectedAnswer,
    Untrusted,
)
from oms_client.errors import problem, seconds_of
from tests.clients.conftest import TlsServer
from tests.clients.ground import FakeClock, Script, a_client, an_order, refused, said, slept, tokens

LOST = requests.ConnectionError("Connection aborted.")
LATE = requests.ReadTimeout("Read timed out.")
HALF = ChunkedEncodingError("Connection broken.")

PRODUCT = uuid4()
PLACED = an_order()
ONCE_ONLY: list[Callable[[Client], object]] = [
    lambda client: client.register("ada@example.com", "secret-of-ada"),
    lambda client: client.adjust_stock(PRODUCT, 3, "found"),
    lambda client: client.change_product(PRODUCT, name="Lamp"),
]
"""What has no key and must not be done twice."""

SAFE: list[Callable[[Client], Order]] = [
    lambda client: client.place_order([Line(PRODUCT)]),
    lambda client: client.cancel_order(PRODUCT),
    lambda client: client.get_order(PRODUCT),
    lambda client: client.ship_order(PRODUCT),
    lambda client: client.deliver_order(PRODUCT),
]


class TestSendingAgain:
    """A request that may be carried out twice without harm survives what passes."""

    @pytest.mark.parametrize("ask", SAFE)
    @pytest.mark.parametrize("trouble", [LOST, LATE, HALF, 502, 503, 504])
    def test_gets_through_passing_trouble(self, ask: Callable[[Client], Order], trouble: Any) -> None:
        """Whatever of it."""
        script = Script(*[refused(trouble) if isinstance(trouble, int) else trouble] * 1, said(200, PLACED))

        assert str(ask(a_client(script, tokens=tokens())).id) == PLACED["id"]
        assert len(script.asked) == 2

    @pytest.mark.parametrize("ask", SAFE[:2])
    def test_sends_the_same_key_and_body_each_time(self, ask: Callable[[Client], Order]) -> None:
        """And another one for another wish."""
        script = Script(LOST, refused(503), said(201, PLACED), said(201, PLACED))
        client = a_client(script, tokens=tokens())

        ask(client)
        ask(client)

        keys = script.headers("Idempotency-Key")
        assert len(set(keys[:3])) == 1
        assert len(set(keys)) == 2
        assert len({request.body for request in script.asked}) == 1
        assert len(set(script.headers("X-Request-Id")[:3])) == 1

    def test_sends_the_key_that_was_given(self) -> None:
        """So that another process can go on."""
        script = Script(said(201, PLACED))

        a_client(script).place_order([Line(PRODUCT)], idempotency_key="mine")

        assert script.headers("Idempotency-Key") == ["mine"]

    def test_does_not_repeat_what_a_repeat_would_be_refused(self) -> None:
        """The first try may have changed the ETag that the second one would name."""
        script = Script(*[refused(503)] * 3, said(200, PLACED))
        client = a_client(script)

        for move in (client.ship_order, client.deliver_order):
            with pytest.raises(Unavailable):
                move(PRODUCT, if_match='"1"')
        client.cancel_order(PRODUCT, if_match='"1"')

        assert script.headers("If-Match") == ['"1"'] * 4

    def test_waits_while_its_key_is_in_use(self) -> None:
        """The first try is still at work."""
        script = Script(LATE, refused(409, "idempotency_key_in_use", Retry_After="1"), said(201, PLACED))
        client = a_client(script)

        client.place_order([Line(PRODUCT)])

        assert slept(client)[1] > 1

    @pytest.mark.parametrize("ask", ONCE_ONLY)
    @pytest.mark.parametrize("trouble", [LOST, LATE, HALF, 500, 502, 503, 504])
    def test_does_not_risk_to_do_a_thing_twice(self, ask: Callable[[Client], object], trouble: Any) -> None:
        """It may have been done; the caller has to look."""
        script = Script(refused(trouble) if isinstance(trouble, int) else trouble)

        with pytest.raises(OmsError) as raised:
            ask(a_client(script, tokens=tokens()))

        assert len(script.asked) == 1
        assert getattr(raised.value, "uncertain", True)

    @pytest.mark.parametrize("ask", ONCE_ONLY)
    def test_does_what_was_refused_at_the_door(self, ask: Callable[[Client], object]) -> None:
        """429 says that nothing was done."""
        script = Script(refused(429, Retry_After="1"), refused(422))

        with pytest.raises(InvalidInput):
            ask(a_client(script, tokens=tokens()))

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 422, 500, 501])
    def test_takes_a_final_answer_for_final(self, status: int) -> None:
        """The same again would be answered the same."""
        script = Script(refused(status))

        with pytest.raises(Problem) as raised:
            a_client(script).place_order([Line(PRODUCT)])

        assert (raised.value.status, len(script.asked)) == (status, 1)

    def test_does_what_never_arrived(self, unused_port: int) -> None:
        """Nobody listened: not even a thing without a key can have been done."""
        client = Client(f"http://127.0.0.1:{unused_port}", clock=FakeClock())

        with pytest.raises(NoAnswer) as raised:
            client.register("ada@example.com", "secret-of-ada")

        assert not raised.value.uncertain
        assert len(slept(client)) == Retries().attempts - 1


class TestPatience:
    """It ends."""

    def test_doubles_its_pauses_up_to_the_longest(self) -> None:
        """Each between half of that and all of it."""
        client = a_client(Script(*[LOST] * 6), retries=Retries(longest_pause_seconds=1.0))

        with pytest.raises(NoAnswer):
            client.me()

        for pause, longest in zip(slept(client), [0.2, 0.4, 0.8, 1.0, 1.0], strict=True):
            assert longest / 2 <= pause <= longest

    def test_does_not_keep_step_with_others(self) -> None:
        """Else all that failed together come back together."""
        assert len({Retries().pause(4) for _ in range(20)}) > 10

    def test_waits_as_long_as_it_is_asked_to(self) -> None:
        """And a little more, for others were asked the same."""
        client = a_client(Script(refused(503, Retry_After="7"), said(200, PLACED)))

        client.get_order(PRODUCT)

        assert 7 < slept(client)[0] <= 7.2

    def test_gives_up_at_once_when_it_would_be_too_late(self) -> None:
        """The caller may wait better than a library."""
        client = a_client(Script(refused(429, "rate_limited", Retry_After="60")))

        with pytest.raises(TooManyRequests) as raised:
            client.get_order(PRODUCT)

        assert (raised.value.retry_after, slept(client)) == (60.0, [])

    def test_keeps_to_its_deadline(self) -> None:
        """However many tries are left."""
        retries = Retries(attempts=1000, deadline_seconds=10.0, first_pause_seconds=1.0)
        client = a_client(Script(*[refused(503)] * 100), retries=retries)

        with pytest.raises(Unavailable):
            client.get_order(PRODUCT)

        assert 4 < sum(slept(client)) < 10

    def test_waits_for_no_answer_beyond_its_deadline(self) -> None:
        """Each try may take what is left."""
        timeouts = []

        class Slow(HTTPAdapter):
            """Takes three seconds for nothing."""

            def send(self, *_args: Any, **options: Any) -> requests.Response:
                """Nothing."""
                timeouts.append(options["timeout"][1])
                client.clock.sleep(3.0)
                raise LATE

        client = a_client(Script(), retries=Retries(deadline_seconds=7.0), answer_seconds=5.0)
        client.transport.http.mount("http://", Slow())
        with pytest.raises(NoAnswer):
            client.me()

        assert timeouts[0] == 5.0
        assert timeouts == sorted(timeouts, reverse=True)
        assert all(timeout <= 7.0 - 3.0 * tries for tries, timeout in enumerate(timeouts))

    @pytest.mark.parametrize(("written", "seconds"), [("3", 3.0), (None, None), ("soon", None), ("-1", None)])
    def test_reads_what_it_is_asked_for(self, written: str | None, seconds: float | None) -> None:
        """And leaves nonsense aside."""
        assert seconds_of(written) == seconds

    def test_reads_a_date(self) -> None:
        """The other form that HTTP knows; one in the past asks for nothing."""
        now = datetime.now(UTC)

        assert 50 < (seconds_of(format_datetime(now + timedelta(minutes=1), usegmt=True)) or 0) <= 60
        assert seconds_of(format_datetime(now - timedelta(minutes=1), usegmt=True)) == 0.0


class TestErrors:
    """What a person needs is in them, and nothing secret."""

    def test_tell_what_the_server_said(self) -> None:
        """All of it."""
        document = {"status": 422, "code": "validation_failed", "detail": "See errors.", "requestId": "r-7"}
        wrong = {"errors": [{"pointer": "/items/0/quantity", "detail": "Must be at least 1."}], "hint": "more"}

        with pytest.raises(InvalidInput) as raised:
            a_client(Script(said(422, {**document, **wrong}))).place_order([Line(PRODUCT, 0)])

        error = raised.value
        assert (error.code, error.detail, error.request_id) == ("validation_failed", "See errors.", "r-7")
        assert [(each.pointer, each.detail) for each in error.errors] == [("/items/0/quantity", "Must be at least 1.")]
        assert error.extra == {"hint": "more"}
        assert "/items/0/quantity" in str(error)
        assert "r-7" in str(error)

    def test_are_told_of_a_page_as_well(self) -> None:
        """A proxy's words are no problem document."""
        page = said(502, None, X_Request_Id="r-8")
        page.raw.write(b"<html>Bad gateway</html>")
        page.raw.seek(0)

        with pytest.raises(ServerFault) as raised:
            a_client(Script(page)).adjust_stock(PRODUCT, 1, "found")

        assert (raised.value.code, raised.value.request_id) == ("http_502", "r-8")

    def test_have_a_class_for_each_status(self) -> None:
        """And one for those that come one day."""
        assert type(problem(409, {}, {})) is Conflict
        assert type(problem(418, {}, {})) is Problem
        assert type(problem(507, {}, {})) is ServerFault

    def test_name_the_request_when_nobody_answered(self) -> None:
        """The server's logs may know more."""
        script = Script(LOST)

        with pytest.raises(NoAnswer) as raised:
            a_client(script).adjust_stock(PRODUCT, 1, "found")

        assert raised.value.request_id == script.headers("X-Request-Id")[0]
        assert raised.value.request_id in str(raised.value)

    @pytest.mark.parametrize("trouble", [LOST, LATE, 401, 404, 422, 500])
    def test_hold_no_secret(self, trouble: Any) -> None:
        """Neither they nor what they come from, nor anything that is shown of the client."""
        pair, password = tokens(), token_hex()
        client = a_client(Script(*[refused(trouble) if isinstance(trouble, int) else trouble] * 6), tokens=pair)

        with pytest.raises(OmsError) as raised:
            client.register("ada@example.com", password)

        error = raised.value
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.__dict__)
        shown += repr(client) + repr(pair) + repr(client.wallet) + repr(client.transport)
        assert (error.__context__, error.__cause__) == (None, None)
        assert not [secret for secret in (password, pair.token, pair.refresh_token) if secret in shown]

    @pytest.mark.parametrize(
        "url", ["gateway", "ftp://gateway", "http://", "https://ada:secret@gateway", "http://gateway?token=1"]
    )
    def test_refuse_a_url_that_is_none(self, url: str) -> None:
        """Or that holds what others would read."""
        with pytest.raises(ValueError, match="The URL") as raised:
            Client(url)

        assert "secret" not in str(raised.value)


class TestOnTheWire:
    """What goes out with a request, and what is not followed."""

    def test_adds_what_the_caller_wants_added(self) -> None:
        """A trace, and an id of the caller's own; asked anew for each request."""
        ids = iter(["one", "two"])
        script = Script(said(200, PLACED), said(200, PLACED))
        client = a_client(script, context=lambda: {"x-request-id": next(ids), "traceparent": "00-ab-cd-01"})

        client.get_order(PRODUCT)
        client.get_order(PRODUCT)

        assert script.headers("X-Request-Id") == ["one", "two"]
        assert script.headers("traceparent") == ["00-ab-cd-01"] * 2

    def test_follows_no_redirect(self) -> None:
        """The API has none, and a token is for one server."""
        script = Script(said(302, None, Location="http://elsewhere.test/"))

        with pytest.raises(UnexpectedAnswer, match="302"):
            a_client(script, tokens=tokens()).me()

        assert len(script.asked) == 1

    def test_keeps_no_cookie(self) -> None:
        """Nobody follows anybody."""
        script = Script(said(200, PLACED, Set_Cookie="spy=1"), said(200, PLACED))
        client = a_client(script)

        client.get_order(PRODUCT)
        client.get_order(PRODUCT)

        assert script.headers("Cookie") == [None, None]

    def test_does_not_send_what_netrc_says(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
        """That is for other programs."""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine gateway.test login ada password secret\n")
        monkeypatch.setenv("NETRC", str(netrc))
        script = Script(said(200, {"items": [], "nextCursor": None}))

        assert list(a_client(script).products()) == []
        assert script.headers("Authorization") == [None]

    def test_does_not_believe_a_stranger(self, tls_server: TlsServer) -> None:
        """A certificate nobody vouched for ends it at the first try; nothing was sent."""
        client = Client(tls_server.url, clock=FakeClock())

        with pytest.raises(Untrusted) as raised:
            list(client.products())

        assert not raised.value.uncertain
        assert slept(client) == []

    def test_believes_whom_it_is_told_to_believe(self, tls_server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        """An authority of one's own, whatever the environment says; or, if it must be, anybody."""
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)

        for verify in (str(tls_server.authority), False):
            with Client(tls_server.url, settings=Settings(verify=verify)) as client, warnings.catch_warnings():
                warnings.simplefilter("ignore", InsecureRequestWarning)
                assert list(client.products()) == []


class TestWaiting:
    """``wait_for`` looks until it is so."""

    def test_asks_only_for_what_changed(self) -> None:
        """304 is the same order again."""
        pending, confirmed = said(200, PLACED, ETag='"1"'), said(200, {**PLACED, "status": "Confirmed"}, ETag='"2"')
        script = Script(pending, said(304), said(304), confirmed)

        order = a_client(script).wait_for(PRODUCT, OrderStatus.CONFIRMED)

        assert (order.status, order.etag) == ("Confirmed", '"2"')
        assert script.headers("If-None-Match") == [None, '"1"', '"1"', '"1"']

    def test_ends_when_it_cannot_come_to_pass_any_more(self) -> None:
        """And shows where the order is."""
        cancelled = {**PLACED, "status": "Cancelled", "statusReason": "out_of_stock"}

        with pytest.raises(NotReached, match="Cancelled") as raised:
            a_client(Script(said(200, cancelled))).wait_for(PRODUCT, OrderStatus.CONFIRMED)

        assert raised.value.order.status_reason == "out_of_stock"

    def test_ends_in_time(self) -> None:
        """With what is known."""
        client = a_client(Script(*[lambda _: said(200, PLACED)] * 100))

        with pytest.raises(NotReached, match="still Pending"):
            client.wait_for(PRODUCT, OrderStatus.CONFIRMED, seconds=5.0)

        assert 3 < sum(slept(client)) <= 5

    def test_waits_for_whatever_is_asked(self) -> None:
        """Also beyond a final status."""
        script = Script(
            *[said(200, {**PLACED, "status": "Cancelled", "paymentStatus": each}) for each in ("Completed", "Refunded")]
        )

        order = a_client(script).wait_for(PRODUCT, lambda order: order.payment_status == "Refunded")

        assert order.payment_status == "Refunded"


class TestLists:
    """Pages are fetched as they are needed."""

    def test_go_from_page_to_page(self) -> None:
        """With the same filter."""
        summary = {name: PLACED[name] for name in ("id", "userId", "status", "totalAmount", "currency", "createdAt")}
        summary["itemCount"] = 1
        script = Script(
            said(200, {"items": [summary, summary], "nextCursor": "a+b"}),
            said(200, {"items": [summary], "nextCursor": None}),
        )
        since = datetime(2026, 1, 1, tzinfo=UTC)

        orders = a_client(script).orders(status=OrderStatus.PENDING, since=since, page_size=2)

        assert script.asked == []
        assert len([next(orders), next(orders)]) == 2
        assert len(script.asked) == 1
        assert len(list(orders)) == 1
        query = "limit=2&status=Pending&from=2026-01-01T00%3A00%3A00%2B00%3A00"
        assert [str(request.url).partition("?")[2] for request in script.asked] == [query, f"{query}&cursor=a%2Bb"]

    def test_are_lists(self) -> None:
        """Or something else answers."""
        with pytest.raises(UnexpectedAnswer):
            list(a_client(Script(said(200, {}))).products())
