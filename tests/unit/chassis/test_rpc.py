import gc
from types import SimpleNamespace
from typing import Any

import pytest
from eventlet.event import Event as Signal

from services.chassis import wire
from services.chassis.errors import Conflict, TimedOut, Unavailable
from services.chassis.lateness import Lateness
from services.chassis.rpc import INTERNAL, Rpc, RpcConsumer, _budget, _context, _encode_answer
from services.chassis.rpc_proxy import ReplyListener, RpcProxy


def a_reply(correlation_id: object, body: bytes) -> Any:
    """An answer as it arrives."""
    return SimpleNamespace(properties={"correlation_id": correlation_id}, body=body)


@pytest.fixture
def listener() -> ReplyListener:
    """One that is connected to nothing."""
    return ReplyListener()


class TestReplyListener:
    """Who waits for which answer."""

    def test_wakes_who_waits(self, listener: ReplyListener) -> None:
        """With the answer."""
        signal = listener.expect("a")

        listener.handle_delivery(a_reply("a", wire.encode({"result": 5, "error": None})))

        assert signal.wait() == (None, 5)

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"{", b"[]", b"{}", b'{"result": 1}', b"null"),
            *(b'{"result": null, "error": "x"}', b'{"result": null, "error": {"exc_path": []}}'),
        ],
    )
    def test_an_answer_that_is_none_is_unavailable(self, listener: ReplyListener, body: bytes) -> None:
        """Nobody waits for another one."""
        signal = listener.expect("a")

        listener.handle_delivery(a_reply("a", body))

        with pytest.raises(Unavailable, match="malformed_reply"):
            signal.wait()

    @pytest.mark.parametrize("correlation_id", [None, "b", "", [1]])
    def test_an_answer_nobody_waits_for_is_dropped(self, listener: ReplyListener, correlation_id: object) -> None:
        """It came too late, or to the wrong place."""
        signal = listener.expect("a")

        listener.handle_delivery(a_reply(correlation_id, b"{"))

        assert not signal.ready()

    def test_tells_everybody_when_the_connection_is_lost(self, listener: ReplyListener) -> None:
        """Their answers are lost with it."""
        signals = [listener.expect(str(number)) for number in range(3)]

        listener.on_disconnected()

        for signal in signals:
            with pytest.raises(Unavailable, match="broker_unavailable"):
                signal.wait()

    def test_does_not_leak(self, listener: ReplyListener) -> None:
        """Neither answered nor forgotten calls, nor those whose answer nobody asked for."""
        answered, forgotten = listener.expect("a"), listener.expect("b")
        abandoned: Signal | None = listener.expect("c")

        listener.handle_delivery(a_reply("a", b'{"result": 1, "error": null}'))
        listener.forget("b")
        del abandoned
        gc.collect()

        assert (answered.ready(), forgotten.ready(), len(listener._reply_events)) == (True, False, 0)


class TestAnswers:
    """What is sent back."""

    def test_a_result_is_sent_as_it_is(self) -> None:
        """As JSON."""
        assert wire.decode(_encode_answer({"a": 1}, None)) == {"result": {"a": 1}, "error": None}

    def test_an_error_kind_is_described(self) -> None:
        """So that stock Nameko rebuilds it."""
        error = wire.decode(_encode_answer(None, Conflict("busy", "Wait.", {"retry_after": 3})))["error"]

        assert error == {
            "exc_type": "Conflict",
            "exc_path": "services.chassis.errors.Conflict",
            "exc_args": ["busy", "Wait.", {"retry_after": 3}],
            "value": "busy: Wait.",
        }

    def test_a_time_out_is_unavailable_to_the_caller(self) -> None:
        """Six kinds cross, not seven."""
        assert wire.decode(_encode_answer(None, TimedOut("x", "y")))["error"]["exc_type"] == "Unavailable"

    @pytest.mark.parametrize("error", [RuntimeError("secret"), KeyError("secret"), Conflict("a", "b", {"x": object()})])
    def test_everything_else_is_an_internal_error(self, error: Exception) -> None:
        """Without its text, also when a kind carries what is no JSON."""
        assert wire.decode(_encode_answer(None, error))["error"] == INTERNAL

    @pytest.mark.parametrize("result", [object(), {"a": {1, object()}}, "\ud800"])
    def test_a_result_that_is_no_json_is_an_internal_error(self, result: object) -> None:
        """The caller is answered all the same."""
        assert wire.decode(_encode_answer(result, None)) == {"result": None, "error": INTERNAL}


class TestHeaders:
    """What is believed of a caller's headers."""

    @pytest.mark.parametrize(("value", "seconds"), [(500, 0.5), (0, 0), (-5, -0.005)])
    def test_a_budget_is_a_number_of_milliseconds(self, value: object, seconds: float) -> None:
        """From the call's arrival."""
        assert _budget({"nameko.budget_ms": value}) == seconds

    @pytest.mark.parametrize("value", [None, "500", 1.5, [500]])
    def test_no_budget_is_no_deadline(self, value: object) -> None:
        """As of a stock Nameko client."""
        assert _budget({"nameko.budget_ms": value}) == float("inf")

    def test_three_things_travel(self) -> None:
        """Token, correlation and trace, as text of bounded length."""
        headers = {
            "nameko.auth_token": "t",
            "nameko.correlation_id": 5,
            "nameko.traceparent": "x" * 5000,
            "nameko.call_id_stack": ["a"],
            "nameko.user_id": "somebody else",
        }

        assert _context(headers) == {"auth_token": "t"}


class TestProxy:
    """Only what was named can be called."""

    def test_another_method_is_a_mistake_in_the_code(self) -> None:
        """The broker would refuse it too."""
        proxy: Any = RpcProxy("orders", "get_order").get_dependency(SimpleNamespace(data={}))

        with pytest.raises(AttributeError, match="delete_order"):
            _ = proxy.delete_order


class TestRpcConsumer:
    """Which method a call is for."""

    def test_knows_its_methods_while_they_are_taken_back(self) -> None:
        """A call that came just before the service stopped is no call of an unknown method."""
        consumer, run = RpcConsumer(), list[Any]()
        consumer.container = SimpleNamespace(
            service_name="orders",
            received_at=lambda: 0.0,
            spawn_worker=lambda entrypoint, *_, **__: run.append(entrypoint),
        )
        consumer.lateness = Lateness()
        method = Rpc()
        method.method_name = "place_order"
        method.check_signature = lambda *_: None
        consumer.register_provider(method)
        consumer._providers.remove(method)

        consumer.handle_delivery(a_call("orders.place_order"))

        assert run == [method]


def a_call(method: str) -> Any:
    """A call as it arrives."""
    return SimpleNamespace(
        properties={"reply_to": "reply.gateway.1", "correlation_id": "c"},
        headers={},
        delivery_info={"routing_key": method, "redelivered": False},
        body=wire.encode({"args": [], "kwargs": {}}),
    )
