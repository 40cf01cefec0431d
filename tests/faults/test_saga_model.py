"""The long explorations of ``docs/saga-model``; the brief ones are unit tests."""

from collections.abc import Callable

import pytest

from cli.state import CHECKOUT
from saga_model.explorer import explore
from saga_model.moves import Weather
from saga_model.report import figure
from saga_model.weathers import MAIL_STORM, STORM


@pytest.fixture(scope="module", autouse=True)
def _ends_well() -> None:
    """There is no cluster here that could."""


class TestEveryCourse:
    """Messages late, repeated, given up and replayed, in every order there is."""

    @pytest.mark.long
    @pytest.mark.parametrize("weather", [STORM, MAIL_STORM], ids=lambda weather: weather.name)
    def test_keeps_every_promise(self, weather: Weather, record_property: Callable[[str, object], None]) -> None:
        """In as many states as the model's README says."""
        course = explore(weather)
        record_property("states", course.states)
        record_property("moves", course.moves)

        assert (course.broken, course.trace) == (None, ())
        assert " | ".join(figure(weather, course)) in (CHECKOUT / "docs" / "saga-model" / "README.md").read_text()
