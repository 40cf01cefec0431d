import traceback
import warnings
from secrets import token_hex
from typing import Any

import pytest
from urllib3.exceptions import InsecureRequestWarning

from oms_client import (
    Client,
    Conflict,
    InvalidInput,
    Line,
    NoAnswer,
    OmsError,
    Problem,
    ServerFault,
    Settings,
    UnexpectedAnswer,
    Untrusted,
)
from oms_client.errors import problem
from tests.clients.conftest import TlsServer
from tests.clients.ground import (
    LATE,
    LOST,
    PLACED,
    PRODUCT,
    FakeClock,
    Script,
    a_client,
    refused,
    said,
    slept,
    tokens,
)


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
