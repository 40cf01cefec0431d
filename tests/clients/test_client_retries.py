from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from oms_client import (
    Client,
    InvalidInput,
    Line,
    NoAnswer,
    OmsError,
    Order,
    Problem,
    Retries,
    TooManyRequests,
    Unavailable,
)
from oms_client.errors import seconds_of
from tests.clients.ground import (
    HALF,
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

        assert 3000 < (seconds_of(format_datetime(now + timedelta(hours=1), usegmt=True)) or 0) <= 3600
        assert seconds_of(format_datetime(now - timedelta(hours=1), usegmt=True)) == 0.0
