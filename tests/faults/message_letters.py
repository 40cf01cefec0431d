"""Dead letters, seen to by the product's own means: listed, copied as a crash would copy them, replayed, discarded."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, get_args

import redis
from amqp.basic_message import Message
from kombu.connection import Connection

from cli.__main__ import main
from cli.doctor_reading import WITH_EVENTS
from services.chassis.dead_letters import DeadLetterQueue, Wanted
from services.chassis.letter import BY_THE_BROKER, DELIVERY_LIMIT, HISTORY, DeadLetter
from services.chassis.redelivery import Kind
from tests.faults.message_detour import opened
from tests.faults.message_stories import LISTENING
from tests.support.cluster import Cluster
from tests.support.operator import Operator
from tests.support.until import eventually

KINDS: Final = frozenset(get_args(Kind)) - {"passing"} | BY_THE_BROKER.keys()
"""All that a letter may have been given up for, by the chassis or by the broker."""

MOST: Final = 10_000
PATIENCE_SECONDS: Final = 120.0
_NOT_YET: Final = """
    CREATE TABLE excused (event_id uuid, handler text);
    CREATE FUNCTION not_yet() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        IF EXISTS (SELECT 1 FROM public.excused WHERE event_id = NEW.event_id AND handler = NEW.handler) THEN
            RETURN NEW;
        END IF;
        RAISE EXCEPTION 'not yet';
    END $$;
    CREATE TRIGGER not_yet BEFORE INSERT ON inbox FOR EACH ROW EXECUTE FUNCTION not_yet()"""


class Letters:
    """The dead letters of all services, as the operator has them."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self.operator = operator
        self.folder = folder
        (folder / "operator").write_text(f"AMQP_URI={operator.amqp_url}\n")

    @contextmanager
    def seen_to(self) -> Iterator["Letters"]:
        """None before the block, and what is left after it is discarded by the operator."""
        self.discard_all()
        yield self
        self.discard_all()

    @contextmanager
    def _queue(self, service: str) -> Iterator[DeadLetterQueue]:
        with closing(Connection(self.operator.amqp_url).transport.establish_connection()) as connection:
            yield DeadLetterQueue(connection, service)

    def of(self, *services: str) -> list[DeadLetter]:
        """All of these services, of every one that listens if none is named."""
        found: list[DeadLetter] = []
        for service in services or LISTENING:
            with self._queue(service) as queue:
                found += queue.list_letters(Wanted(), MOST)
        return found

    def wait_for(self, *message_ids: str) -> dict[str, DeadLetter]:
        """The letters of these messages, once all of them were given up."""
        found: dict[str, DeadLetter] = {}

        def all_there() -> bool:
            found.update({letter.message_id: letter for letter in self.of()})
            return found.keys() >= set(message_ids)

        eventually(all_there, "all were given up", PATIENCE_SECONDS)
        return found

    def copy(self, letter: DeadLetter) -> None:
        """Let it lie there twice, as after a crash between its replay and the broker's hearing that it is gone."""
        with opened(self.operator) as channel:
            message = Message(letter.body, **{**letter.properties, "application_headers": dict(letter.headers)})
            channel.basic_publish_confirm(message, f"{letter.service}.dead-letters", letter.queue)

    def replay(self, letter: DeadLetter) -> int:
        """Deliver it again, and its copies; how many."""
        with self._queue(letter.service) as queue:
            return queue.replay(Wanted(id=letter.id), MOST)

    def discard_all(self) -> None:
        """Throw away what is left; that somebody did is kept, so that nobody misses an answer to it."""
        for service in (*LISTENING, "users"):
            with self._queue(service) as queue:
                queue.discard(Wanted(), "a test", "it was made to fail", MOST)

    def oms(self, *arguments: str) -> int:
        """What ``./oms dead-letters`` exits with."""
        action, *rest = arguments
        return main(["dead-letters", action, "--env", str(self.folder), *rest])


def let_broker_give_up(operator: Operator, queue: str, kind: str) -> None:
    """Take the queue's next message until the broker gives it up: by rejecting it, or by ending each time with it."""
    rejected = kind == "rejected"
    with opened(operator) as channel:
        for _ in range(1 if rejected else DELIVERY_LIMIT + 1):
            message = eventually(lambda: channel.basic_get(queue), "in the queue", PATIENCE_SECONDS)
            channel.basic_reject(message.delivery_tag, requeue=not rejected)


def history_of(letter: DeadLetter) -> Sequence[str]:
    """The kinds of its failures before it was replayed, oldest first."""
    return [entry["kind"] for entry in json.loads(letter.headers.get(HISTORY, "[]"))]


class Reluctance:
    """Every handler fails for good with every event of the customer's, until it is excused."""

    def __init__(self, cluster: Cluster, user_id: str) -> None:
        self.cluster = cluster
        self.user_id = user_id

    @contextmanager
    def on(self) -> Iterator["Reluctance"]:
        """While the block runs."""
        for service in WITH_EVENTS:
            self.cluster.execute(service, _NOT_YET)
        self._write_name("Ada\n")
        try:
            yield self
        finally:
            self._write_name("Ada")
            for service in WITH_EVENTS:
                self.cluster.execute(service, "DROP FUNCTION not_yet CASCADE; DROP TABLE excused")

    def excuse(self, letter: DeadLetter) -> None:
        """From now on this one succeeds; among the mails, all."""
        if letter.service == "notifications":
            self._write_name("Ada")
        else:
            row = (letter.event_id, letter.handler)
            self.cluster.execute(letter.service, "INSERT INTO excused VALUES (%s, %s)", *row)

    def _write_name(self, name: str) -> None:
        """A name that no letter can be headed with is a failure for good."""
        self.cluster.execute("users", "UPDATE users SET first_name = %s WHERE id = %s", name, self.user_id)
        with redis.Redis.from_url(self.cluster.place.endpoints.redis_url) as client:
            client.delete(*client.keys(f"*contact:{self.user_id}*") or ["none"])


def replay_twice(letters: Letters, reluctance: Reluctance, letter: DeadLetter) -> int:
    """The first time it comes back with its history; then the cause is mended, and it is there twice and goes twice.

    How many went to a handler that can answer them.
    """
    assert (letter.kind, letter.failures) == ("lasting", 5), letter.reason
    if not letter.history:
        assert letters.replay(letter) == 1
        return 0
    assert history_of(letter) == ["lasting"]
    reluctance.excuse(letter)
    letters.copy(letter)
    assert letters.replay(letter) == 2
    return 2
