"""What the Python client does with the real gateway's live streams and conditional writes."""

from decimal import Decimal
from uuid import UUID

import pytest

from oms_client import Client, Line, OrderStatus, PreconditionFailed
from tests.clients.conftest import Enter
from tests.clients.ground import PASSWORD, Mending, an_email
from tests.support import lines
from tests.support.cluster import Cluster

pytestmark = pytest.mark.usefixtures("holds_together")

SECONDS = 60.0


class TestFollowing:
    """The history comes whole, whatever the line does."""

    def test_goes_on_where_the_line_broke(self, cluster: Cluster, enter: Enter, lamp: UUID) -> None:
        """Each entry once, in order, to the end of a cancelled order."""
        with lines.Line(cluster.ports["gateway"]) as line:
            ada = enter(line.url(cluster.url), clock=Mending(line))
            ada.register(an_email(), PASSWORD)
            order = ada.place_order([Line(lamp)])
            ada.wait_for(order.id, OrderStatus.CONFIRMED, seconds=SECONDS)

            entries = ada.follow(order.id)
            found = [next(entries)]
            line.reset()
            ada.cancel_order(order.id)
            found += entries

        assert [entry.number for entry in found] == list(range(1, len(found) + 1))
        assert found[-1].to_status is OrderStatus.CANCELLED


class TestConditionalWrites:
    """Nothing is done to what has changed since it was seen."""

    def test_are_refused_once_it_has_changed(self, ada: Client, boss: Client, lamp: UUID) -> None:
        """A product and an order."""
        known = boss.get_product(lamp)
        changed = boss.change_product(lamp, if_match=known.etag, price=Decimal("12.50"))
        with pytest.raises(PreconditionFailed):
            boss.change_product(lamp, if_match=known.etag, price=Decimal("13.50"))

        order = ada.place_order([Line(lamp)])
        confirmed = boss.wait_for(order.id, OrderStatus.CONFIRMED, seconds=SECONDS)
        with pytest.raises(PreconditionFailed):
            boss.ship_order(order.id, if_match=order.etag)
        shipped = boss.ship_order(order.id, if_match=confirmed.etag)
        delivered = boss.deliver_order(order.id, if_match=shipped.etag)

        assert changed.price == Decimal("12.50")
        assert delivered.status is OrderStatus.DELIVERED
