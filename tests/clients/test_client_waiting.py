from datetime import UTC, datetime

import pytest

from oms_client import (
    NotReached,
    OrderStatus,
    UnexpectedAnswer,
)
from tests.clients.ground import PLACED, PRODUCT, Script, a_client, said, slept


class TestWaiting:
    """``wait_for`` looks until it is so."""

    def test_asks_only_for_what_changed(self) -> None:
        """304 is the same order again."""
        pending, confirmed = said(200, PLACED, ETag='"1"'), said(200, {**PLACED, "status": "Confirmed"}, ETag='"2"')
        script = Script(pending, said(304), said(304), confirmed)

        order = a_client(script).wait_for(PRODUCT, OrderStatus.CONFIRMED)

        assert (order.status, order.etag) == ("Confirmed", '"2"')
        assert script.headers("If-None-Match") == [None, '"1"', '"1"', '"1"']

    def test_ends_when_it_cannot_come_to_pass_any_more(self) -> None:
        """And shows where the order is."""
        cancelled = {**PLACED, "status": "Cancelled", "statusReason": "out_of_stock"}

        with pytest.raises(NotReached, match="Cancelled") as raised:
            a_client(Script(said(200, cancelled))).wait_for(PRODUCT, OrderStatus.CONFIRMED)

        assert raised.value.order.status_reason == "out_of_stock"

    def test_ends_in_time(self) -> None:
        """With what is known."""
        client = a_client(Script(*[lambda _: said(200, PLACED)] * 100))

        with pytest.raises(NotReached, match="still Pending"):
            client.wait_for(PRODUCT, OrderStatus.CONFIRMED, seconds=5.0)

        assert 3 < sum(slept(client)) <= 5

    def test_waits_for_whatever_is_asked(self) -> None:
        """Also beyond a final status."""
        script = Script(
            *[said(200, {**PLACED, "status": "Cancelled", "paymentStatus": each}) for each in ("Completed", "Refunded")]
        )

        order = a_client(script).wait_for(PRODUCT, lambda order: order.payment_status == "Refunded")

        assert order.payment_status == "Refunded"


class TestLists:
    """Pages are fetched as they are needed."""

    def test_go_from_page_to_page(self) -> None:
        """With the same filter."""
        summary = {name: PLACED[name] for name in ("id", "userId", "status", "totalAmount", "currency", "createdAt")}
        summary["itemCount"] = 1
        script = Script(
            said(200, {"items": [summary, summary], "nextCursor": "a+b"}),
            said(200, {"items": [summary], "nextCursor": None}),
        )
        since = datetime(2026, 1, 1, tzinfo=UTC)

        orders = a_client(script).orders(status=OrderStatus.PENDING, since=since, page_size=2)

        assert script.asked == []
        assert len([next(orders), next(orders)]) == 2
        assert len(script.asked) == 1
        assert len(list(orders)) == 1
        query = "limit=2&status=Pending&from=2026-01-01T00%3A00%3A00%2B00%3A00"
        assert [str(request.url).partition("?")[2] for request in script.asked] == [query, f"{query}&cursor=a%2Bb"]

    def test_are_lists(self) -> None:
        """Or something else answers."""
        with pytest.raises(UnexpectedAnswer):
            list(a_client(Script(said(200, {}))).products())
