"""Journeys through one running cluster."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def _ends_well(holds_together: None) -> None:
    """After each module every invariant of the saga holds."""
