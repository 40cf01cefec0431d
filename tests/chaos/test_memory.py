import pytest

from tests.chaos.memory import JUDGED_AFTER_SECONDS, SAMPLE_SECONDS, Samples, grown, lines, thirds

LONG = int(JUDGED_AFTER_SECONDS / SAMPLE_SECONDS)


class TestMemory:
    """Whether a process takes more and more."""

    def test_that_stays_is_fine(self) -> None:
        """It may have grown to its size at first."""
        assert list(grown({("orders", 1): [60] * (LONG // 3) + [100] * LONG})) == []

    def test_that_grows_on_is_wrong(self) -> None:
        """It is said of which process, and by how much."""
        leak = [100 + each / 20 for each in range(LONG)]
        samples: Samples = {("orders", 1): leak, ("payments", 2): [100, 101] * LONG}

        assert list(grown(samples)) == ["orders (process 1) grew by 4.0 MiB in the last two thirds of its life"]

    def test_of_a_young_process_is_not_judged(self) -> None:
        """It may still be getting to its size."""
        assert list(grown({("orders", 1): [100 + each for each in range(LONG - 1)]})) == []

    @pytest.mark.parametrize("samples", [[7], [7, 7], [7, 7, 7, 7]])
    def test_is_told_of_the_shortest_life(self, samples: list[int]) -> None:
        """One look is enough for a figure."""
        assert thirds(samples) == (7, 7, 7)
        assert len(list(lines({("orders", 1): samples}))) == 3
