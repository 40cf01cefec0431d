from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Response

from services.chassis.auth import Principal
from services.chassis.errors import NotFound, Unauthenticated, Unavailable
from services.chassis.event_streams import HEARTBEAT, MOST_TOPICS, MOST_WAITING, OPENING, Bounds, News, Streams
from services.chassis.http_app import Request
from services.chassis.problems import Refusal


def a_caller(user_id: UUID | None = None, seconds: float = 900) -> Principal:
    """Somebody whose token is good for so long."""
    return Principal(user_id or uuid4(), "customer", uuid4(), uuid4(), datetime.now(UTC) + timedelta(seconds=seconds))


def a_request(last: str | None = None, method: str = "GET") -> Request:
    """A request for a stream."""
    headers = {} if last is None else {"Last-Event-ID": last}
    return Request(EnvironBuilder(method=method, headers=Headers(headers)).get_environ())


def news(*numbers: int, over: bool = False) -> News:
    """Entries with these numbers."""
    return {"entries": [{"number": number} for number in numbers], "over": over}


def source(history: Mapping[str, News]) -> Callable[[Mapping[str, int]], Mapping[str, News]]:
    """What answers from a history."""

    def ask(after: Mapping[str, int]) -> Mapping[str, News]:
        return {topic: history[topic] for topic in after}

    return ask


def nothing(_: int) -> News:
    """No news yet."""
    return news()


def nobody(_: Any) -> Any:
    """Who must not be asked."""
    pytest.fail("somebody was asked")


def chunks(response: Response) -> Iterator[bytes]:
    """What the client gets, piece by piece."""
    return iter(response.response)  # type: ignore[arg-type]


def numbers(chunk: list[bytes]) -> list[bytes]:
    """The ids of the events among these chunks."""
    return [each.split(b"\n")[0] for each in chunk if each.startswith(b"id")]


@pytest.fixture
def streams() -> Streams:
    """No streams yet."""
    return Streams(Bounds(heartbeat_seconds=0.01))


class TestStream:
    """What one client gets."""

    def test_begins_with_what_was_before(self, streams: Streams) -> None:
        """As the standard writes events; the id is the entry's number."""
        asked: list[int] = []

        def ask(after: int) -> News:
            asked.append(after)
            return news(3, 4)

        response = streams.answer(a_request("2"), a_caller(), "a", ask)
        pieces = chunks(response)

        assert response.headers["Content-Type"] == "text/event-stream"
        assert asked == [2]
        assert next(pieces) == OPENING
        assert next(pieces) == b'id: 3\ndata: {"number":3}\n\n'
        assert next(pieces) == b'id: 4\ndata: {"number":4}\n\n'
        assert next(pieces) == HEARTBEAT

    def test_goes_on_with_what_is_brought(self, streams: Streams) -> None:
        """Nothing twice, and an end with the last of it."""
        response = streams.answer(a_request(), a_caller(), "a", lambda _: news(1))

        streams.bring(source({"a": news(1, 2)}))
        streams.bring(source({"a": news(2, 3, over=True)}))

        assert numbers(list(chunks(response))) == [b"id: 1", b"id: 2", b"id: 3"]

    def test_ends_at_once_with_what_is_over(self, streams: Streams) -> None:
        """Everything there was, and that was it."""
        response = streams.answer(a_request(), a_caller(), "a", lambda _: news(1, 2, over=True))

        assert numbers(list(chunks(response))) == [b"id: 1", b"id: 2"]

    def test_is_204_when_nothing_more_will_come(self, streams: Streams) -> None:
        """What the standard ends reconnecting with."""
        response = streams.answer(a_request("2"), a_caller(), "a", lambda _: news(over=True))

        assert response.status_code == 204
        assert not streams.open

    def test_ends_with_its_token(self, streams: Streams) -> None:
        """Whatever happens or does not."""
        response = streams.answer(a_request(), a_caller(seconds=0.05), "a", nothing)

        assert set(chunks(response)) <= {OPENING, HEARTBEAT}

    def test_ends_after_its_time(self) -> None:
        """The client comes again."""
        streams = Streams(Bounds(seconds=0.05))

        assert list(chunks(streams.answer(a_request(), a_caller(), "a", nothing)))[:1] == [OPENING]

    def test_ends_for_who_cannot_keep_up(self, streams: Streams) -> None:
        """Their last id brings them back."""
        response = streams.answer(a_request(), a_caller(), "a", nothing)

        streams.bring(source({"a": news(*range(1, MOST_WAITING + 2))}))

        assert len(numbers(list(chunks(response)))) == MOST_WAITING + 1

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "1" * 10, "²"])
    def test_is_400_for_an_id_that_is_none(self, streams: Streams, last: str) -> None:
        """Nobody is asked."""
        with pytest.raises(Refusal, match="bad_last_event_id"):
            streams.answer(a_request(last), a_caller(), "a", nobody)

    def test_is_not_begun_for_a_look(self, streams: Streams) -> None:
        """HEAD."""
        response = streams.answer(a_request(method="HEAD"), a_caller(), "a", nothing)

        assert response.headers["Content-Type"] == "text/event-stream"
        assert not streams.open


class TestStreams:
    """All of them."""

    def test_are_as_many_as_may_be(self) -> None:
        """503; those of one user 429."""
        streams, one = Streams(Bounds(most=3, most_each=2)), a_caller()
        first = streams.answer(a_request(), one, "a", nothing)
        streams.answer(a_request(), one, "a", nothing)

        with pytest.raises(Refusal) as mine:
            streams.answer(a_request(), one, "a", nobody)
        streams.answer(a_request(), a_caller(), "a", nothing)
        with pytest.raises(Refusal) as everybodys:
            streams.answer(a_request(), a_caller(), "a", nobody)
        first.close()
        streams.answer(a_request(), a_caller(), "a", nothing)

        assert (mine.value.status, everybodys.value.status) == (429, 503)
        assert int(mine.value.headers["Retry-After"]) > 0

    def test_are_not_opened_for_who_may_not_know(self, streams: Streams) -> None:
        """The source says who."""

        def refuse(_: int) -> News:
            raise NotFound("order_not_found", "There is no such order.")

        with pytest.raises(NotFound):
            streams.answer(a_request(), a_caller(), "a", refuse)

        assert not streams.open

    def test_ask_once_for_each_topic_from_where_the_slowest_is(self, streams: Streams) -> None:
        """However many watch it, and some hundred topics at a time."""
        asked: list[dict[str, int]] = []

        def ask(after: Mapping[str, int]) -> Mapping[str, News]:
            asked.append(dict(after))
            return {}

        for last in ("4", "2", "3"):
            streams.answer(a_request(last), a_caller(), "a", nothing)
        streams.bring(ask)
        for number in range(MOST_TOPICS):
            streams.answer(a_request(), a_caller(), str(number), nothing)
        streams.bring(ask)

        assert asked[0] == {"a": 2}
        assert [len(each) for each in asked[1:]] == [MOST_TOPICS, 1]

    def test_ask_nobody_when_nobody_watches(self, streams: Streams) -> None:
        """Silence costs nothing."""
        streams.answer(a_request(), a_caller(), "a", nothing).close()

        streams.bring(nobody)

    def test_wait_while_their_source_is_away(self, streams: Streams) -> None:
        """And go on where they were."""

        def away(_: Any) -> Any:
            raise Unavailable("timed_out", "No answer.")

        response = streams.answer(a_request(), a_caller(), "a", nothing)
        streams.bring(away)
        streams.bring(source({"a": news(1, over=True)}))

        assert numbers(list(chunks(response))) == [b"id: 1"]

    def test_end_for_who_was_logged_out(self, streams: Streams) -> None:
        """Each caller is asked about every few seconds."""
        asked: list[UUID] = []

        def admit(caller: Principal) -> None:
            asked.append(caller.user_id)
            if caller is gone:
                raise Unauthenticated("token_revoked", "No.")

        gone, here = a_caller(), a_caller()
        responses = [streams.answer(a_request(), each, "a", nothing) for each in (gone, here)]
        streams.check(admit)
        assert asked == []

        for stream in streams.open:
            stream.checked_at -= 10
        streams.check(admit)
        streams.check(admit)
        streams.bring(source({"a": news(1, over=True)}))

        assert sorted(asked) == sorted([gone.user_id, here.user_id])
        assert [numbers(list(chunks(each))) for each in responses] == [[], [b"id: 1"]]

    def test_end_with_the_process(self, streams: Streams) -> None:
        """And no new one begins."""
        response = streams.answer(a_request(), a_caller(), "a", nothing)

        streams.end_all()

        assert list(chunks(response)) == [OPENING]
        with pytest.raises(Refusal, match="stopping"):
            streams.answer(a_request(), a_caller(), "a", nothing)
