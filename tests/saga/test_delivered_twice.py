from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from cli.doctor_reading import WITH_EVENTS
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import fingerprints, messages
from tests.support.operator import Operator
from tests.support.rest import come_to_rest
from tests.support.until import eventually


@pytest.fixture(scope="module")
def events(cluster: Cluster, operator: Operator, admin: Client, customer: Client) -> dict[str, list[dict[str, Any]]]:
    """The outboxes after orders that between them caused every kind of event there is; all is quiet."""
    product = admin.add_product(stock=9)
    ends = {
        customer.place(product): "Confirmed",
        customer.place(product, quantity=99): "Cancelled",
        customer.place(product, method="pm_declined"): "Cancelled",
    }
    back = customer.place(product)
    for order_id, status in {**ends, back: "Confirmed"}.items():
        customer.wait_for(order_id, status)
    delivered = next(iter(ends))
    admin.ship(delivered)
    admin.deliver(delivered)
    customer.cancel(back)
    come_to_rest(cluster, operator)
    query = "SELECT event_id, event_type, payload FROM outbox WHERE order_id IN %s OR payload LIKE %s ORDER BY id"
    ids = (*ends, back)
    return {service: cluster.rows(service, query, ids, f"%{product}%") for service in WITH_EVENTS}


class TestEveryHandler:
    """Each event of the saga delivered a second time, to each of its subscribers."""

    def test_changes_nothing(
        self, cluster: Cluster, operator: Operator, events: Mapping[str, list[dict[str, Any]]]
    ) -> None:
        """Not one row, mail or charge is new or different."""
        expected = Counter(
            f"{each.service}.{each.method}"
            for each in cluster.subscriptions()
            for event in events[each.source]
            if event["event_type"] == each.event
        )
        assert expected.keys() == {f"{each.service}.{each.method}" for each in cluster.subscriptions()}
        before, handled = fingerprints(cluster), operator.handled()

        for service, published in events.items():
            for event in published:
                operator.repeat(service, event)
        wanted = {handler: handled.get(handler, 0) + count for handler, count in expected.items()}
        eventually(lambda: {**operator.handled(), **wanted} == operator.handled(), "every handler has been asked again")
        come_to_rest(cluster, operator)

        assert fingerprints(cluster) == before
        assert operator.dead_letters() == []

    def test_sends_no_mail_again_when_redis_has_forgotten(
        self, cluster: Cluster, operator: Operator, events: Mapping[str, list[dict[str, Any]]]
    ) -> None:
        """The mailbox keeps its own book: a flushed Redis repeats no message."""
        before, asked = messages(cluster), mails_asked_for(operator)
        cluster.flush_redis()

        for service, published in events.items():
            for event in published:
                operator.repeat(service, event)
        told = [each for each in cluster.subscriptions() if each.service == "notifications"]
        wanted = asked + sum(event["event_type"] == each.event for each in told for event in events[each.source])
        eventually(lambda: mails_asked_for(operator) >= wanted, "every notification was asked for again")
        come_to_rest(cluster, operator)

        assert messages(cluster) == before


def mails_asked_for(operator: Operator) -> int:
    """How many events notifications has answered."""
    return sum(count for handler, count in operator.handled().items() if handler.startswith("notifications."))
