from types import SimpleNamespace
from typing import Any

import pytest

from services.chassis import broker
from services.chassis.broker import TransientPublisher


class Broker:
    """Counts the questions it is asked, and answers them when it is well."""

    def __init__(self) -> None:
        self.is_well = True
        self.asked = 0

    def exchange_declare(self, *_: Any, **__: Any) -> None:
        """Nothing more, or the connection breaks."""
        self.asked += 1
        if not self.is_well:
            raise ConnectionResetError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A publisher, its broker, and the clock both go by."""
    here = SimpleNamespace(broker=Broker(), publisher=TransientPublisher(), now=1000.0)
    monkeypatch.setattr(here.publisher, "_open", lambda: here.broker)
    monkeypatch.setattr(broker, "monotonic", lambda: here.now)
    return here


class TestBrokerAnswers:
    """Who is to blame when nobody answered."""

    @pytest.mark.parametrize("is_well", [True, False])
    def test_asks_once_for_all_who_ask_together(self, asked: SimpleNamespace, is_well: bool) -> None:  # noqa: FBT001
        """A request that waited in vain for three services waits for one more answer, not for three."""
        asked.broker.is_well = is_well

        assert [asked.publisher.broker_answers() for _ in range(3)] == [is_well] * 3
        assert asked.broker.asked == 1

    def test_asks_again_after_a_moment(self, asked: SimpleNamespace) -> None:
        """It may have gone away since, or come back."""
        for is_well in (True, False, True):
            asked.broker.is_well = is_well
            assert asked.publisher.broker_answers() == is_well
            asked.now += 1
