"""Dead letters in a real broker, seen to by a person at the command line; no service runs."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from amqp.basic_message import Message

from cli.servers.private import Servers
from cli.servers.vhosts import Vhost
from cli.topology import wanted
from cli.trouble import Trouble
from services.chassis import wire
from services.chassis.letter import HISTORY, DeadLetter
from tests.support.letters import HANDLER, LETTERS, QUEUE, Bench
from tests.support.until import eventually


@pytest.fixture
def bench(vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """No dead letters yet."""
    monkeypatch.setenv("OMS_STATE", str(tmp_path))
    return Bench(vhost, tmp_path)


class TestList:
    """Looking changes nothing."""

    def test_shows_all_of_them_in_their_order(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        """However often somebody looks."""
        orders = [bench.bury(number) for number in range(25)]

        for _ in range(3):
            assert bench.oms("list", "--json") == 0
            listed = json.loads(capsys.readouterr().out)
            assert [each["orderId"] for each in listed] == orders
        assert len({each["id"] for each in listed}) == 25
        assert listed[3] | {"id": "", "messageId": ""} == {
            "id": "",
            "service": "payments",
            "event": "OrderCancelledEvent",
            "orderId": orders[3],
            "messageId": "",
            "handler": HANDLER,
            "kind": "lasting",
            "reason": "NotFound: reason 3",
            "attempts": 5,
            "failedAt": "2026-01-01T00:00:00.000003+00:00",
            "replays": 0,
        }

    def test_survives_more_looks_than_a_broker_forgives(self, bench: Bench) -> None:
        """A look is a delivery, and a queue may have a limit of those."""
        bench.bury()

        for _ in range(30):
            assert len(bench.letters()) == 1

    @pytest.mark.parametrize(
        ("filters", "count"),
        [
            ([], 2),
            (["--service", "payments"], 2),
            (["--service", "orders"], 0),
            (["--event", "OrderCancelledEvent"], 1),
            (["--event", "InventoryReservedEvent"], 1),
            (["--order", "{order}"], 1),
        ],
    )
    def test_filters(self, bench: Bench, capsys: pytest.CaptureFixture[str], filters: list[str], count: int) -> None:
        """By service, event and order."""
        order = bench.bury(1)
        bench.bury(2, queue="evt-inventory-InventoryReservedEvent--payments.on_inventory_reserved")

        bench.oms("list", "--json", *(each.format(order=order) for each in filters))

        assert len(json.loads(capsys.readouterr().out)) == count

    def test_says_when_there_are_none(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        """In a sentence."""
        assert bench.oms("list") == 0

        assert capsys.readouterr().out == "There are no dead letters.\n"

    def test_reads_what_the_broker_gave_up_itself(self, bench: Bench) -> None:
        """A message at its delivery limit has no marks of ours."""
        with closing(bench.connect()) as connection:
            channel = connection.channel()
            channel.basic_publish(
                Message(b"{}", message_id="m", delivery_mode=2), "orders.events", "OrderCancelledEvent"
            )
            message = eventually(lambda: channel.basic_get(QUEUE))
            channel.basic_reject(message.delivery_tag, requeue=False)

            (letter,) = eventually(bench.letters)

        assert (letter.handler, letter.event, letter.queue) == (HANDLER, "OrderCancelledEvent", QUEUE)
        assert letter.reason.startswith("given up by the broker: rejected")


class TestShow:
    """All of one letter."""

    def test_hides_secrets(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        """In the payload and in the headers."""
        call = {"args": [{"email": "ada@example.com", "password": "hunter2"}], "kwargs": {}}
        bench.bury(queue="rpc-payments", body=call, headers={"nameko.auth_token": "eyJ.secret"})
        (letter,) = bench.letters()

        assert bench.oms("show", letter.id[:8]) == 0

        text = capsys.readouterr().out
        assert "hunter2" not in text
        assert "eyJ.secret" not in text
        shown = json.loads(text)
        assert shown["payload"]["args"] == [{"email": "ada@example.com", "password": "(hidden)"}]

    def test_measures_what_is_no_json(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        """Nobody can say what is in it."""
        bench.bury(body=b"password=hunter2")
        (letter,) = bench.letters()

        bench.oms("show", letter.id)

        text = capsys.readouterr().out
        assert "hunter2" not in text
        assert "no JSON: 16 bytes" in text

    def test_names_an_unknown_one(self, bench: Bench) -> None:
        """In a sentence."""
        with pytest.raises(Trouble, match="There is no dead letter ffff"):
            bench.oms("show", "ffff")


class TestReplay:
    """A letter goes to its handler once more."""

    def test_delivers_it_with_new_counters_and_its_history(self, bench: Bench) -> None:
        """The body as it was; it is no dead letter any more."""
        bench.bury(7)
        (letter,) = bench.letters()

        assert bench.oms("replay", letter.id) == 0

        message = eventually(lambda: bench.take(QUEUE))
        headers = message.properties["application_headers"]
        assert wire.decode(message.body) == wire.decode(letter.body)
        assert message.properties["message_id"] == letter.message_id
        assert set(headers) - {"x-delivery-count"} == {HISTORY}
        (entry,) = json.loads(headers[HISTORY])
        assert entry | {"replayedAt": ""} == {
            "failedAt": letter.failed_at,
            "kind": "lasting",
            "reason": "NotFound: reason 7",
            "attempts": 5,
            "replayedAt": "",
        }
        assert bench.letters() == []

    def test_delivers_all_that_match(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        """The others stay, in their order."""
        orders = [bench.bury(1), bench.bury(2), bench.bury(3)]

        assert bench.oms("replay", "--all", "--order", orders[1]) == 0
        assert "1 replayed." in capsys.readouterr().out
        assert [letter.order_id for letter in bench.letters()] == [orders[0], orders[2]]
        assert bench.oms("replay", "--all") == 0

        assert bench.letters() == []
        entries = (bench.folder / "logs" / "dead-letters.log").read_text().splitlines()
        assert [json.loads(entry)["action"] for entry in entries] == ["replayed"] * 3

    def test_keeps_what_nobody_handles(self, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
        """A call whose caller has left, a handler that is gone."""
        bench.bury(queue="rpc-payments")

        assert bench.oms("replay", "--all") == 1

        assert "nobody handles rpc-payments any more" in capsys.readouterr().err
        assert len(bench.letters()) == 1

    def test_wants_to_know_which(self, bench: Bench) -> None:
        """One or all, not both and not none."""
        for arguments in ([], ["abcd", "--all"]):
            with pytest.raises(Trouble, match="Say which"):
                bench.oms("replay", *arguments)


class TestDiscard:
    """A letter is thrown away for a reason."""

    def test_writes_down_what_and_why(self, bench: Bench) -> None:
        """The others stay."""
        bench.bury(1)
        kept = bench.bury(2)
        letter = bench.letters()[0]

        assert bench.oms("discard", letter.id, "--reason", "sent by mistake") == 0

        assert [each.order_id for each in bench.letters()] == [kept]
        (entry,) = map(json.loads, (bench.folder / "logs" / "dead-letters.log").read_text().splitlines())
        assert (entry["action"], entry["reason"]) == ("discarded", "sent by mistake")
        moved = bench.take("payments.discarded")
        assert moved.properties["application_headers"]["x-oms-discarded-because"] == "sent by mistake"
        assert entry["letter"]["payload"]["number"] == 1

    def test_takes_several(self, bench: Bench) -> None:
        """As a list of ids; one that is unknown ends it."""
        orders = [bench.bury(number) for number in range(3)]
        first, second, _ = (letter.id for letter in bench.letters())

        with pytest.raises(Trouble, match="There is no dead letter 0123"):
            bench.oms("discard", "--reason", "not needed", first, second, "0123")

        assert [each.order_id for each in bench.letters()] == orders[2:]

    def test_wants_a_reason(self, bench: Bench) -> None:
        """A blank is none."""
        bench.bury()

        with pytest.raises(Trouble, match="for a reason"):
            bench.oms("discard", bench.letters()[0].id, "--reason", " ")

        assert len(bench.letters()) == 1


class TestRestart:
    """The broker is restarted."""

    @pytest.fixture
    def restarted(self, private_servers: Servers) -> Iterator[Callable[[], None]]:
        """Restarts it."""
        yield lambda: private_servers.restart("rabbitmq")
        private_servers.wait("rabbitmq")

    def test_loses_none(self, vhost: Vhost, tmp_path: Path, restarted: Callable[[], None]) -> None:
        """Under the same ids."""
        whole = wanted()
        bench = Bench(
            vhost,
            tmp_path,
            replace(  # RabbitMQ 3.10 stumbles when queues that move safely are deleted soon after its restart
                whole,
                exchanges=tuple(each for each in whole.exchanges if each.name == LETTERS),
                queues=tuple(each for each in whole.queues if each.name == LETTERS),
                bindings=tuple(each for each in whole.bindings if each.queue == LETTERS),
            ),
        )
        bench.bury(1)
        bench.bury(2)
        before = [letter.id for letter in bench.letters()]

        restarted()

        assert eventually(lambda: quietly(bench.letters), seconds=30)
        assert [letter.id for letter in bench.letters()] == before


def quietly(look: Callable[[], list[DeadLetter]]) -> list[DeadLetter]:
    """What it sees, or nothing while the broker is not there."""
    try:
        return look()
    except OSError:
        return []
