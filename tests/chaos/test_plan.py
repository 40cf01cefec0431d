from itertools import pairwise

import pytest

from tests.chaos.hurt import ACTS
from tests.chaos.plan import KINDS, RECOVERY_SECONDS, Fault, draw

TARGETS = {
    "instances": ["orders", "orders-2", "gateway", "gateway-2"],
    "servers": ["postgres", "rabbitmq", "valkey"],
    "lines": ["orders-2 to postgres", "gateway-2 to rabbitmq"],
    "services": ["orders", "gateway"],
    "owners": ["orders"],
    "everybody": ["everybody"],
}


def drawn(seed: int = 1, minutes: float = 10) -> list[Fault]:
    """The plan of a run."""
    return draw(seed, minutes * 60, TARGETS)


class TestPlan:
    """What goes wrong and when."""

    def test_is_the_same_for_the_same_seed(self) -> None:
        """Kinds, targets and seconds."""
        assert drawn(seed=7) == drawn(seed=7)

    def test_is_another_for_another_seed(self) -> None:
        """Not one fault more or less, but another course."""
        assert drawn(seed=7) != drawn(seed=8)

    @pytest.mark.parametrize("seed", range(5))
    def test_has_every_kind(self, seed: int) -> None:
        """In ten minutes each comes at least once, and nothing that nobody can do."""
        assert {fault.kind for fault in drawn(seed)} == {kind.name for kind in KINDS} == set(ACTS)

    def test_hurts_every_target(self) -> None:
        """Each instance and each server."""
        targets = {fault.target for fault in drawn()}

        assert targets == {target for group in TARGETS.values() for target in group}

    @pytest.mark.parametrize("minutes", [0.4, 1, 10])
    def test_is_over_in_time(self, minutes: float) -> None:
        """What is broken is mended before the end, and something is broken."""
        faults = drawn(minutes=minutes)

        assert faults
        assert all(fault.ends_at <= minutes * 60 for fault in faults)

    def test_leaves_what_was_hurt_alone_for_a_while(self) -> None:
        """No two faults at one thing at once."""
        faults = drawn()

        for target in {fault.target for fault in faults}:
            for one, next_one in pairwise(fault for fault in faults if fault.target == target):
                assert next_one.at >= one.ends_at + RECOVERY_SECONDS - 0.1

    def test_breaks_several_things_at_a_time(self) -> None:
        """As in life."""
        assert any(later.at < earlier.ends_at for earlier, later in pairwise(drawn()))

    def test_has_only_what_was_asked_for(self) -> None:
        """A soak has nothing in it."""
        kills = [kind for kind in KINDS if kind.name == "kill"]

        assert {fault.kind for fault in draw(1, 60, TARGETS, kills)} == {"kill"}
        assert draw(1, 60, TARGETS, []) == []
