"""The doctor looks into the broker: what is missing there, what nobody reads, what was given up."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from amqp import Channel
from amqp.basic_message import Message
from amqp.exceptions import AccessRefused

from cli.doctor_broker import examine_broker
from cli.doctor_places import Places, places_of
from cli.doctor_report import Report
from cli.servers.vhosts import Vhost
from services.chassis.dead_letters import DeadLetterQueue, Wanted
from tests.support.letters import QUEUE, Bench
from tests.support.until import eventually


@pytest.fixture
def bench(vhost: Vhost, tmp_path: Path) -> Bench:
    """No dead letters yet, and no service."""
    return Bench(vhost, tmp_path)


class TestBroker:
    """What must hold in the broker."""

    def report(self, bench: Bench) -> Report:
        """What it says of this broker."""
        report = Report()
        examine_broker(self.places(bench), bench.topology, report)
        return report

    def places(self, bench: Bench) -> Places:
        """The broker as its operator sees it, with no more than the operator's rights."""
        return places_of({}, bench.operator_url, bench.vhost.management.url, {})

    def test_names_a_dead_letter(self, bench: Bench) -> None:
        """With its order, its reason and what to do."""
        order_id = bench.bury(4)

        (finding,) = self.report(bench).kept["broker.no_dead_letters"]

        assert finding.order_id == order_id
        assert "after 5 tries: NotFound: reason 4. See ./oms dead-letters show " in finding.text

    def test_takes_a_discarded_letter_for_settled(self, bench: Bench) -> None:
        """Somebody decided that its event needs no answer."""
        bench.bury(4)
        (letter,) = bench.letters()
        with closing(bench.connect(bench.operator_url)) as connection:
            DeadLetterQueue(connection, "payments").discard(Wanted(id=letter.id), "ada", "not needed")
        report = Report()

        for _ in range(2):
            found = examine_broker(self.places(bench), bench.topology, report)

        assert report.counts["broker.no_dead_letters"] == 0
        assert found.given_up == {(letter.message_id, letter.handler)}

    def test_names_a_queue_that_nobody_reads(self, bench: Bench) -> None:
        """And how many messages wait there."""
        findings = self.report(bench).kept["broker.every_queue_has_its_service"]

        assert any(QUEUE in finding.text and "does payments run?" in finding.text for finding in findings)

    def test_counts_where_the_broker_refuses_to(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """A RabbitMQ since 4.2.6 tells a user nothing over AMQP of a queue it has no right on."""
        declare = Channel.queue_declare

        def refuse(channel: Channel, queue: str, **options: Any) -> Any:
            if queue.startswith(("evt-", "rpc-")) or ".retry." in queue:
                channel.close()
                raise AccessRefused
            return declare(channel, queue, **options)

        with closing(bench.connect()) as connection:
            connection.channel().basic_publish(Message("{}"), "", QUEUE)
        monkeypatch.setattr(Channel, "queue_declare", refuse)

        def texts() -> list[str]:
            findings = self.report(bench).kept.get("broker.every_queue_has_its_service", [])
            return [finding.text for finding in findings if QUEUE in finding.text]

        eventually(lambda: any("1 messages wait" in text for text in texts()), seconds=60)  # figures come late

    @pytest.mark.parametrize(
        "path",
        [("queues", QUEUE), ("exchanges", "payments.redeliver"), ("bindings", "e", "orders.events", "q", QUEUE)],
    )
    def test_names_what_is_missing(self, bench: Bench, path: tuple[str, ...]) -> None:
        """Queue, exchange or binding."""
        kind, *rest = path
        if kind == "bindings":
            rest.append("OrderCancelledEvent")
        bench.vhost.broker.delete(kind, bench.vhost.name, *rest)

        findings = self.report(bench).kept["broker.topology_is_complete"]

        assert any(rest[-2 if kind == "bindings" else 0] in finding.text for finding in findings)

    def test_says_that_the_broker_does_not_answer(self, bench: Bench) -> None:
        """Instead of falling over."""
        nowhere = bench.operator_url.rpartition("@")[0] + "@127.0.0.1:1/"
        report = Report()

        examine_broker(replace(self.places(bench), operator_url=nowhere), bench.topology, report)

        assert report.counts["broker.answers"] == 1

    def test_finds_nothing_else(self, bench: Bench) -> None:
        """A fresh broker lacks nothing but the services."""
        report = self.report(bench)

        assert {name for name, count in report.counts.items() if count} == {"broker.every_queue_has_its_service"}
