"""Dead letters that are replayed, each twice: what is missing happens once, what fails again comes back."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from cli.doctor_reading import WITH_EVENTS
from services.chassis.letter import BY_THE_BROKER, DeadLetter
from tests.faults.message_detour import opened, send
from tests.faults.message_letters import KINDS, Letters, Reluctance, history_of, let_broker_give_up, replay_twice
from tests.faults.message_lies import Lie, tell, untrue
from tests.faults.message_stories import PATIENT, Leavings, differences, leavings, tell_all
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.evidence import charge_of, movements_of, until_mails
from tests.support.operator import Operator
from tests.support.rest import come_to_rest, under_way
from tests.support.until import eventually

PATIENCE_SECONDS = 120.0
LONG_PATIENCE_SECONDS = 900.0
HOPELESS = {"alarm", "malformed"}
"""The kinds that no mending helps."""


@pytest.fixture
def letters(operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Letters]:
    """The dead letters; none before a test."""
    monkeypatch.setenv("OMS_STATE", str(tmp_path))
    with Letters(operator, tmp_path).seen_to() as letters:
        yield letters


class TestOfEveryHandler:
    """Every handler fails for good with every event, and again when that is replayed, until its cause is mended."""

    @pytest.mark.long
    def test_does_what_is_missing_once(
        self, cluster: Cluster, operator: Operator, admin: Client, letters: Letters, record_property: Any
    ) -> None:
        """Each letter comes back with its history; then it is replayed twice, and all is as if nothing had failed."""
        cluster.stop("orders")
        cluster.start("orders", environment=PATIENT)
        customer = Client.register(cluster.url, firstName="Ada", phone="+4915112345678")
        expected = tell_all(admin, customer)
        until_mails(cluster, expected["taken back"], "confirmation", "receipt", "closing", "refund")
        come_to_rest(cluster, operator, PATIENCE_SECONDS)

        with Reluctance(cluster, customer.user_id).on() as reluctance, ThreadPoolExecutor() as pool:
            telling = pool.submit(tell_all, admin, customer, LONG_PATIENCE_SECONDS)
            replayed = Counter[str]()
            end = time.monotonic() + LONG_PATIENCE_SECONDS
            while not telling.done() or under_way(cluster, operator) or letters.of(*WITH_EVENTS):
                assert time.monotonic() < end, under_way(cluster, operator)
                for letter in letters.of(*WITH_EVENTS):
                    replayed[letter.handler] += replay_twice(letters, reluctance, letter)
            told = telling.result()
            mails = replay_mails(letters, reluctance)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        eventually(lambda: not letters.of(), "no letter is left", PATIENCE_SECONDS)

        handlers = {f"{each.service}.{each.method}" for each in cluster.subscriptions()}
        assert replayed.keys() | mails.keys() == handlers
        assert differences(settled(leavings(cluster, told)), settled(leavings(cluster, expected))) == []
        record_property("replayed", dict(replayed + mails))


def replay_mails(letters: Letters, reluctance: Reluctance) -> Counter[str]:
    """See to the letters about mails: all come back once, before the cause is mended; how many each handler had."""
    count = len(letters.of("notifications"))
    for letter in letters.of("notifications"):
        replay_twice(letters, reluctance, letter)
    back = eventually(lambda: came_back(letters, count), "all come back", PATIENCE_SECONDS)
    return Counter({letter.handler: replay_twice(letters, reluctance, letter) for letter in back})


def came_back(letters: Letters, count: int) -> list[DeadLetter]:
    """All of them, once so many were replayed before."""
    back = [letter for letter in letters.of("notifications") if letter.history]
    return back if len(back) == count else []


def settled(left: Leavings) -> Leavings:
    """The same but for the confirmation that is not sent any more when the cancellation is told of first."""
    for each in [each for each in left["taken back"] if ".confirmation" in str(each[-1])]:
        del left["taken back"][each]
    return left


class TestOfEveryKind:
    """Whatever a letter was given up for, it may be replayed twice, one replay after the other."""

    def test_comes_back_with_its_history(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, letters: Letters
    ) -> None:
        """What can never succeed: each time as it was, and with one entry more."""
        order_id = customer.place(admin.add_product(stock=1))
        customer.wait_for(order_id, "Confirmed", 60)
        until_mails(cluster, order_id, "confirmation", "receipt")
        (alarm,) = tell(cluster, operator, [Lie("orders.on_payment_failed", untrue("PaymentFailedEvent", order_id))])
        malformed = str(uuid4())
        with opened(operator) as channel:
            send(channel, cluster.subscription("orders.on_payment_failed"), b"\xff", message_id=malformed)
        first = letters.wait_for(alarm, malformed)

        for times in (1, 2):
            for letter in letters.wait_for(alarm, malformed).values():
                assert letters.oms("replay", letter.id) == 0
            eventually(partial(are_back, letters, times), "back", 60)

        again = letters.wait_for(alarm, malformed)
        assert [history_of(again[alarm]), history_of(again[malformed])] == [["alarm"] * 2, ["malformed"] * 2]
        assert {each.kind for each in again.values()} == HOPELESS
        assert {name: each.body for name, each in again.items()} == {name: each.body for name, each in first.items()}
        assert customer.order(order_id)["status"] == "Confirmed"

    @pytest.mark.long
    @pytest.mark.parametrize("kind", sorted(KINDS - HOPELESS))
    def test_does_what_is_missing_once(
        self, cluster: Cluster, operator: Operator, admin: Client, customer: Client, letters: Letters, kind: str
    ) -> None:
        """First it fails again and comes back; then its cause is mended, and it is there twice and goes twice."""
        product = admin.add_product(stock=2)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)
        with failing(cluster, operator, kind) as give_up:
            order_id = customer.place(product)
            give_up()
            (first,) = eventually(letters.of, "given up", PATIENCE_SECONDS)
            assert (first.handler, first.kind, first.history) == ("inventory.on_order_created", kind, [])
            assert letters.replay(first) == 1
            give_up()
            (again,) = eventually(letters.of, "given up again", PATIENCE_SECONDS)
            assert (again.kind, history_of(again), again.body) == (kind, [kind], first.body)

        letters.copy(again)
        assert letters.replay(again) == 2
        customer.wait_for(order_id, "Confirmed", 60)
        come_to_rest(cluster, operator, PATIENCE_SECONDS)

        assert movements_of(cluster, order_id) == [("reserved", 1)]
        assert charge_of(cluster, order_id) == ["charged"]
        assert letters.of() == []


@contextmanager
def failing(cluster: Cluster, operator: Operator, kind: str) -> Iterator[Callable[[], None]]:
    """While the block runs inventory cannot reserve; call what it yields, and an order that waits is given up so."""
    to = cluster.subscription("inventory.on_order_created")
    if kind in BY_THE_BROKER:
        cluster.stop(to.service)
        try:
            yield partial(let_broker_give_up, operator, to.queue, kind)
        finally:
            cluster.start(to.service)
    else:
        assert kind == "lasting"
        cluster.execute(to.service, "ALTER TABLE reservations RENAME TO mislaid")
        try:
            yield lambda: None
        finally:
            cluster.execute(to.service, "ALTER TABLE mislaid RENAME TO reservations")


def are_back(letters: Letters, times: int) -> bool:
    """Whether both letters lie there again, replayed so many times before."""
    return [len(each.history) for each in letters.of()] == [times, times]
