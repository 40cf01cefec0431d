"""A call gets its answer, one of the six kinds, or Unavailable by its deadline; and it runs at most once."""

import time
from decimal import Decimal
from uuid import uuid4

import pytest

from services.chassis.rpc_proxy import BUDGET, LEFT_AT
from tests.support.stage import KINDS
from tests.support.theatre import Theatre
from tests.support.until import eventually


def told(theatre: Theatre, what: str) -> int:
    """How many events with this word the teller has ever written down."""
    return len(theatre.rows("teller", "SELECT 1 FROM outbox WHERE payload LIKE :what", what=f"%{what}%"))


class TestAnswers:
    """What crosses."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_error_kind_crosses_two_services(self, theatre: Theatre, kind: str) -> None:
        """With its code, its sentence and its extra, in which numbers stay numbers."""
        with theatre.calls("teller") as call:
            answer = call("listener.relay", "answer", f"raise {kind}")

        assert answer["result"] is None
        assert answer["error"]["exc_type"] == kind
        assert answer["error"]["exc_args"] == ["some_code", "No.", {"price": Decimal("1.50"), "retry_after": 7}]

    def test_a_bug_says_nothing_of_itself(self, theatre: Theatre) -> None:
        """The caller learns that there was one; the log of who has it says the rest, once."""
        correlation = f"test-{uuid4()}"
        headers = {"nameko.correlation_id": correlation}
        with theatre.calls() as call:
            answer = call.ask("teller.answer", {"args": ["break"], "kwargs": {}}, headers=headers)

        assert answer["error"] == {
            "exc_type": "InternalError",
            "exc_path": "",
            "exc_args": [],
            "value": "internal error",
        }
        mine = [line for line in theatre.teller.lines() if line.get("correlation_id") == correlation]
        lines = [line for line in mine if line["event"] == "worker_failed"]
        assert ["a secret that must not leave" in line["exception"] for line in lines] == [True]

    def test_the_correlation_id_of_a_request_is_on_every_line(self, theatre: Theatre) -> None:
        """It crosses RPC, and stands in the log of who answers."""
        correlation = f"test-{uuid4()}"
        headers = {"nameko.correlation_id": correlation}

        with theatre.calls("teller") as call:
            call.ask("listener.relay", {"args": ["answer", "break"], "kwargs": {}}, headers=headers)

        eventually(lambda: [line for line in theatre.teller.lines() if line.get("correlation_id") == correlation])

    def test_stops_waiting_when_its_own_caller_does(self, theatre: Theatre) -> None:
        """A nested call gets what is left of its caller's time."""
        began = time.monotonic()
        with theatre.calls("teller") as call:
            body = {"args": ["answer", "sleep 8"], "kwargs": {}}
            answer = call.ask("listener.relay", body, headers={BUDGET: 500})

        assert (answer["error"]["exc_type"], time.monotonic() - began < 4) == ("Unavailable", True)


class TestMalformed:
    """What is no call is answered as far as it can be, and does no harm."""

    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[" * 100_000, [], None, {"args": []}, {"args": {}, "kwargs": {}}, {"args": [], "kwargs": []}],
        ids=["empty", "broken", "deep", "list", "null", "no kwargs", "args no list", "kwargs no object"],
    )
    def test_a_body_that_is_no_call_is_refused(self, theatre: Theatre, body: object) -> None:
        """With InvalidInput."""
        with theatre.calls() as call:
            error = call.ask("teller.answer", body)["error"]

        assert (error["exc_type"], error["exc_args"][0]) == ("InvalidInput", "malformed_call")

    @pytest.mark.parametrize("body", [{"args": [1, 2, 3], "kwargs": {}}, {"args": [], "kwargs": {"self": 1}}])
    def test_arguments_that_do_not_fit_are_refused(self, theatre: Theatre, body: object) -> None:
        """The method is not run."""
        with theatre.calls() as call:
            error = call.ask("teller.answer", body)["error"]

        assert (error["exc_type"], error["exc_args"][0]) == ("InvalidInput", "malformed_call")

    @pytest.mark.parametrize("method", ["nothing", "name", "begin", "__init__"])
    def test_only_what_is_decorated_can_be_called(self, theatre: Theatre, method: str) -> None:
        """Anything else does not exist."""
        with theatre.calls() as call:
            error = call(f"teller.{method}")["error"]

        assert (error["exc_type"], error["exc_args"][0]) == ("NotFound", "unknown_method")

    def test_a_call_without_reply_to_is_a_dead_letter(self, theatre: Theatre) -> None:
        """Nobody would learn the answer, so it is not run."""
        what = str(uuid4())
        with theatre.calls() as call:
            call.send("teller.tell", {"args": [what], "kwargs": {}}, reply_to=None)

        letter = theatre.letter("teller")
        assert (letter.headers["x-oms-kind"], letter.headers["x-oms-queue"]) == ("malformed", "rpc-teller")
        assert what.encode() in letter.body
        assert told(theatre, what) == 0

    @pytest.mark.parametrize("value", ["soon", None, [1], 1.5, -5])
    def test_a_budget_that_is_none_harms_nobody(self, theatre: Theatre, value: object) -> None:
        """The service answers and goes on."""
        with theatre.calls() as call:
            answer = call.ask("teller.answer", {"args": ["hi"], "kwargs": {}}, headers={BUDGET: value})

        assert answer["result"] == "hi" or answer["error"]["exc_type"] == "Unavailable"

    def test_a_reply_nobody_may_send_harms_nobody(self, theatre: Theatre) -> None:
        """The broker refuses the answer; the next caller gets his."""
        with theatre.calls() as call:
            call.send("teller.answer", {"args": ["x"], "kwargs": {}}, reply_to="listener.relay")

            def answered() -> bool:
                return bool(call("teller.answer", "hi", seconds=1)["result"] == "hi")

            eventually(answered)


class TestAtMostOnce:
    """A call that nobody waits for, or that may have run already, is not run."""

    def test_an_expired_call_is_not_run(self, theatre: Theatre) -> None:
        """It is answered, for whoever still listens."""
        what = str(uuid4())
        with theatre.calls() as call:
            answer = call.ask("teller.tell", {"args": [what], "kwargs": {}}, headers={BUDGET: 0})

        assert (answer["error"]["exc_type"], answer["error"]["exc_args"][0]) == ("Unavailable", "expired")
        assert told(theatre, what) == 0

    def test_a_call_that_was_held_up_on_its_way_is_not_run(self, theatre: Theatre) -> None:
        """Measured by the calls before it; the next one, which came as fast as ever, is."""
        late, punctual = str(uuid4()), str(uuid4())
        with theatre.calls() as call:
            answers = [
                call.ask(
                    "teller.tell",
                    {"args": [what], "kwargs": {}},
                    headers={BUDGET: 5000, LEFT_AT: int((time.monotonic() - held_up) * 1000)},
                )
                for what, held_up in (("first", 0), (late, 60), (punctual, 0))
            ]

        assert [answer["error"] and answer["error"]["exc_args"][0] for answer in answers] == [None, "expired", None]
        assert (told(theatre, late), told(theatre, punctual)) == (0, 1)

    def test_a_call_that_was_interrupted_is_not_run_again(self, theatre: Theatre) -> None:
        """Its caller is told to look before repeating."""
        with theatre.calls() as call:
            begun = call.begin("teller.answer", {"args": ["sleep 8"], "kwargs": {}})
            call("teller.answer", "hi")  # so that the first has been delivered
            theatre.teller.kill()
            theatre.teller.start()

            answer = call.wait(begun, 7)
        eventually(lambda: theatre.teller.is_ready)

        assert (answer["error"]["exc_type"], answer["error"]["exc_args"][0]) == ("Unavailable", "interrupted")

    def test_a_frozen_service_is_given_up_and_works_for_nobody_afterwards(self, theatre: Theatre) -> None:
        """After the deadline of five seconds; what waited in its socket is not run when it goes on."""
        what = str(uuid4())
        began = time.monotonic()
        with theatre.calls("teller") as call, theatre.teller.frozen():
            answer = call("listener.relay", "tell", what)
            seconds = time.monotonic() - began

        assert (answer["error"]["exc_type"], answer["error"]["exc_args"][0]) == ("Unavailable", "timed_out")
        assert 4.5 < seconds < 8
        with theatre.calls() as call:
            hi = {"args": ["hi"], "kwargs": {}}
            eventually(lambda: call.ask("teller.answer", hi, headers={BUDGET: 1000})["result"] == "hi")
        assert told(theatre, what) == 0

    def test_a_service_that_is_gone_is_given_up(self, theatre: Theatre) -> None:
        """504 over HTTP, with when to come back; afterwards it does not find the old call."""
        theatre.teller.kill()

        status, document, seconds = theatre.ask_over_http("hi")
        theatre.teller.restart()

        assert (status, document["code"], seconds < 8) == (504, "timed_out", True)
        assert theatre.queued("rpc-teller") == 0
        assert theatre.ask_over_http("hi")[:2] == (200, "hi")
