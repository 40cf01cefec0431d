import pytest

from services.chassis.lateness import MOST_SENDERS, WINDOW_SECONDS, Lateness


class Clock:
    """A clock that a test moves; its senders' stands a thousand seconds behind."""

    now = 5000.0

    def __call__(self) -> float:
        """The time it stands at."""
        return self.now

    def left(self, seconds_ago: float) -> int:
        """When a message left that long ago, as its sender says it."""
        return int((self.now - 1000 - seconds_ago) * 1000)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def lateness(clock: Clock) -> Lateness:
    """One that has heard of nobody."""
    return Lateness(clock)


class TestOf:
    """By how much a message is late."""

    def test_is_what_it_took_longer_than_the_fastest(self, lateness: Lateness, clock: Clock) -> None:
        """Whatever the sender's clock says."""
        assert lateness.of("a", clock.left(0.25)) == 0
        assert lateness.of("a", clock.left(8.25)) == pytest.approx(8)
        assert lateness.of("a", clock.left(0)) == 0
        assert lateness.of("a", clock.left(8)) == pytest.approx(8)

    def test_is_measured_for_each_sender(self, lateness: Lateness, clock: Clock) -> None:
        """Nobody's first message is late."""
        lateness.of("a", clock.left(0))

        assert lateness.of("b", clock.left(60)) == 0

    @pytest.mark.parametrize("left_at", [None, "5", 1.5, True, [1]])
    def test_is_none_where_nothing_is_said(self, lateness: Lateness, clock: Clock, left_at: object) -> None:
        """As by a stock Nameko client."""
        lateness.of("a", clock.left(0))

        assert lateness.of("a", left_at) == 0

    def test_is_seen_after_a_long_silence(self, lateness: Lateness, clock: Clock) -> None:
        """A broker was frozen for an hour: all that it held is late, not only the first."""
        lateness.of("a", clock.left(0))
        clock.now += 3600

        assert [lateness.of("a", clock.left(3600)) for _ in range(3)] == pytest.approx([3600] * 3)
        assert lateness.of("a", clock.left(0)) == 0

    def test_forgives_a_clock_that_stood_still(self, lateness: Lateness, clock: Clock) -> None:
        """After two windows the sender counts as fast as it is by its new time."""
        lateness.of("a", clock.left(0))
        late = []
        for _ in range(4):
            clock.now += WINDOW_SECONDS + 1
            late.append(lateness.of("a", clock.left(90)))

        assert late == pytest.approx([90, 0, 0, 0])

    def test_forgets_who_was_silent_longest(self, lateness: Lateness, clock: Clock) -> None:
        """Each process of a caller is a sender of its own, and none of them says goodbye."""
        for number in range(MOST_SENDERS + 1):
            lateness.of(str(number), clock.left(0))

        assert lateness.of(str(MOST_SENDERS), clock.left(5)) == pytest.approx(5)
        assert lateness.of("0", clock.left(5)) == 0
