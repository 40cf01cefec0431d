import pytest

from cli.demo import play
from cli.demo_door import Door
from cli.demo_paper import Paper, described
from cli.demo_shop import Shop, differences
from cli.demo_stories import Story


class NoShop(Shop):
    """A shop that nobody enters."""

    def __init__(self) -> None:
        self.customers = []


def good_story(_: Shop) -> Story:
    """Ends as it should."""
    return Story()


def bad_story(_: Shop) -> Story:
    """Ends otherwise."""
    return Story(differs=differences("order", {"status": "Confirmed"}, {"status": "Cancelled"}))


class TestPlay:
    """The verdict at the end."""

    def test_is_good_when_every_story_is(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit code 0."""
        assert play(NoShop(), Paper(), [("One", good_story)]) == 0

        assert "All 1 stories ended as they should" in capsys.readouterr().out

    def test_says_what_differed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Exit code 1, with the value that was expected and the one that was found."""
        assert play(NoShop(), Paper(), [("One", good_story), ("Two", bad_story)]) == 1

        output = capsys.readouterr().out
        assert "DIFFERS  order: status should be Confirmed, but is Cancelled" in output
        assert "Two: order: status should be Confirmed" in output


class TestDescribed:
    """A step of a journey as a line."""

    @pytest.mark.parametrize(
        ("step", "line"),
        [
            ({"outcome": "published", "attempt": 1}, ("->", "SomeEvent", "")),
            ({"outcome": "waiting", "attempt": 3}, ("->", "SomeEvent", "waits for the broker at the 3. attempt")),
            ({"outcome": "done", "attempt": 2}, ("<-", "SomeEvent", " at the 2. attempt")),
            ({"outcome": "Pending -> Confirmed", "attempt": 1}, ("<-", "SomeEvent", "Pending -> Confirmed")),
            (
                {"outcome": "sent", "service": "notifications", "note": "receipt by email"},
                ("<-", "SomeEvent", "sent receipt by email"),
            ),
            ({"outcome": "charged", "service": "payments", "eventId": None}, ("", "SomeEvent", "charged")),
        ],
    )
    def test_says_which_way_it_went(self, step: dict[str, object], line: tuple[str, str, str]) -> None:
        """An arrow for a message that left or arrived, none for what a service did by itself."""
        whole = {"service": "orders", "event": "SomeEvent", "eventId": "an-id", "attempt": 1, "note": "", **step}

        assert described(whole) == line


class TestDoor:
    """One person at the gateway."""

    @pytest.mark.parametrize(
        ("url", "minds_proxies"),
        [("http://127.0.0.1:5011", False), ("https://localhost:5010", False), ("https://shop.example.com", True)],
    )
    def test_minds_a_proxy_only_on_the_way_to_the_world(self, url: str, minds_proxies: bool) -> None:  # noqa: FBT001
        """None leads to this machine."""
        assert Door(url).http.trust_env is minds_proxies
