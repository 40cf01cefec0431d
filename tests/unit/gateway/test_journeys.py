from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from nameko.exceptions import RemoteError

from gateway import ask_journeys, join_journeys
from services.chassis.errors import NotFound, TimedOut, Unavailable


def a_step(at: str, service: str) -> dict[str, str]:
    """Something that happened."""
    return {"at": at, "service": service}


def a_proxy(answer: Callable[[], Any], *, asked: list[str] | None = None) -> Any:
    """A service whose reply says this."""

    def call_async(order_id: str) -> Any:
        if asked is not None:
            asked.append(order_id)
        return SimpleNamespace(result=answer)

    return SimpleNamespace(get_journey=SimpleNamespace(call_async=call_async))


def raising(error: Exception) -> Callable[[], Any]:
    """An answer that is this error."""

    def raise_it() -> Any:
        raise error

    return raise_it


class TestAskJourneys:
    """Asking every service for its part."""

    def test_asks_all_before_it_waits_for_any(self) -> None:
        """The slowest decides how long it takes, not the sum."""
        asked: list[str] = []

        def answer() -> Any:
            assert len(asked) == 3
            return {"steps": []}

        proxies = {service: a_proxy(answer, asked=asked) for service in ("a", "b", "c")}

        assert ask_journeys(proxies, "order-1") == {service: {"steps": []} for service in proxies}

    @pytest.mark.parametrize("error", [TimedOut("t", "T."), Unavailable("u", "U."), RemoteError("KeyError", "k")])
    def test_has_none_for_who_does_not_answer(self, error: Exception) -> None:
        """Too late, away, or broken."""
        assert ask_journeys({"payments": a_proxy(raising(error))}, "order-1") == {"payments": None}

    def test_lets_a_refusal_through(self) -> None:
        """A service that says no has answered."""
        with pytest.raises(NotFound):
            ask_journeys({"payments": a_proxy(raising(NotFound("n", "N.")))}, "order-1")


class TestJoinJourneys:
    """One journey out of several."""

    def test_sorts_by_time_and_not_by_spelling(self) -> None:
        """``00:00:00.5Z`` is later than ``00:00:00Z``, though its text is smaller."""
        orders = {"orderId": "1", "steps": [a_step("2026-01-01T00:00:00Z", "orders")]}
        inventory = {"steps": [a_step("2026-01-01T00:00:00.500000Z", "inventory"), a_step("2025-12-31T23:59:59Z", "x")]}

        journey = join_journeys(orders, {"inventory": inventory})

        assert [step["service"] for step in journey["steps"]] == ["x", "orders", "inventory"]

    def test_names_the_silent_ones(self) -> None:
        """And keeps what orders said about the order."""
        orders = {"orderId": "1", "status": "Pending", "steps": []}

        journey = join_journeys(orders, {"inventory": {"steps": []}, "payments": None})

        assert journey == {"orderId": "1", "status": "Pending", "steps": [], "missing": ["payments"]}
