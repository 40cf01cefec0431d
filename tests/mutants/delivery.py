"""Mistakes that lose events, or let them count twice: between a commit, the broker and a handler."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

BROKER: Final = "services/chassis/broker.py"
MESSAGING: Final = "services/chassis/messaging.py"
REDELIVERY: Final = "services/chassis/redelivery.py"
RELAY: Final = "services/chassis/relay.py"
WORK: Final = "services/chassis/work.py"

HANDLER: Final = "tests/unit/chassis/test_event_handler.py::TestEventHandler"
COMMITS: Final = "tests/integration/chassis/test_acknowledging.py::TestCommit"
STEPS: Final = "tests/integration/chassis/test_relay_steps.py"
PUBLISHER: Final = "tests/integration/chassis/test_confirmed_publisher.py::TestPublish"

MUTANTS: Final = (
    Mutant(
        name="acknowledge-before-commit",
        mistake="A message is acknowledged when its handler begins.",
        cost="A process that dies in mid-handling loses the event: stock that nobody sets aside, money nobody returns.",
        killer=f"{HANDLER}::test_acknowledges_once_all_is_committed",
        edits=(
            Edit(
                MESSAGING,
                "        try:\n            self.container.spawn_worker(",
                "        self.queue_consumer.ack_message(message)\n"
                "        try:\n            self.container.spawn_worker(",
            ),
        ),
    ),
    Mutant(
        name="commit-after-acknowledgement",
        mistake="A handler leaves its commit to somebody else, and does not wait for it.",
        cost="The message is acknowledged first: a commit that then fails, or never comes, has lost the event.",
        killer=f"{COMMITS}::test_a_commit_that_fails_acknowledges_nothing",
        edits=(
            Edit(
                MESSAGING,
                "from kombu.entity import Queue\n",
                "import eventlet\nfrom kombu.entity import Queue\n",
            ),
            Edit(
                MESSAGING,
                "                with service.begin.once(delivery) as work:\n"
                "                    if work is not None:\n"
                "                        method(service, delivery.event, work)\n",
                "                opened = service.begin.once(delivery)\n"
                "                work = opened.__enter__()\n"
                "                if work is not None:\n"
                "                    method(service, delivery.event, work)\n"
                "                eventlet.spawn_n(opened.__exit__, None, None, None)\n",
            ),
        ),
    ),
    Mutant(
        name="commit-failure-swallowed",
        mistake="A commit that fails is logged, and no more.",
        cost="The broker forgets an event that no database has seen.",
        killer=f"{COMMITS}::test_a_commit_that_fails_acknowledges_nothing",
        edits=(
            Edit(
                WORK,
                "        if work.commit():\n            self._relay.wake()\n",
                "        try:\n"
                "            if work.commit():\n"
                "                self._relay.wake()\n"
                "        except Exception as error:\n"
                '            log.error("commit_failed", error=type(error).__name__)\n',
            ),
        ),
    ),
    Mutant(
        name="time-by-local-clock",
        mistake="What happens is dated by the clock of whichever process it happens in.",
        cost="An instance whose clock is ahead writes dates that the others take for the future.",
        killer="tests/integration/chassis/test_unit_of_work.py::TestTime"
        "::test_is_the_databases_whatever_the_process_believes[2]",
        edits=(Edit(WORK, "self.session.execute(select(func.now())).scalar_one()", "datetime.now(UTC)"),),
    ),
    Mutant(
        name="time-of-events-by-local-clock",
        mistake="What a handler does is dated by the clock of its process.",
        cost="As before, and an event's answer may be older than the event.",
        killer="tests/integration/chassis/test_unit_of_work.py::TestTime"
        "::test_is_the_databases_whatever_the_process_believes[-2]",
        edits=(Edit(WORK, "event.event_id), delivery, began)", "event.event_id), delivery, datetime.now(UTC))"),),
    ),
    Mutant(
        name="lost-calls-channel-kept",
        mistake="The channel on which a call was lost carries the next ones too.",
        cost="A broker that dropped one in silence drops all, until somebody restarts the process.",
        killer="tests/unit/chassis/test_broker.py::TestBrokerAnswers"
        "::test_gives_up_the_channel_on_which_a_call_was_lost",
        edits=(Edit.drop(BROKER, "                channel.close()\n                self._channel = None\n"),),
    ),
    Mutant(
        name="no-turns",
        mistake="As many events are at work as the broker delivers, however few connections the database has.",
        cost="After an outage each waits for a connection, gives up, is put off and comes again: minutes of nothing.",
        killer="tests/unit/chassis/test_event_handler.py::TestTurns::test_half_of_the_connections_are_left_to_calls",
        edits=(Edit.drop(MESSAGING, "        if self.takes_turns:\n            self.turns.take()\n"),),
    ),
    Mutant(
        name="requeue-for-ever",
        mistake="What fails for good is given back to its queue, again and again.",
        cost="One bad message keeps a worker busy for ever, and nobody is told.",
        killer=f"{HANDLER}::test_lets_the_error_decide[a bug to the end]",
        edits=(
            Edit(
                MESSAGING,
                '        if failure.kind == "passing" or (\n'
                '            failure.kind == "lasting" and failure.failures < self.redelivery.most_failures\n'
                "        ):\n"
                "            self.redelivery.later(message, failure)\n",
                '        if failure.kind in ("passing", "lasting"):\n'
                "            self.queue_consumer.requeue_message(message)\n",
            ),
        ),
    ),
    Mutant(
        name="alarms-swallowed",
        mistake="What is given up is acknowledged and not put with the dead letters.",
        cost="What must never happen happens, and leaves no trace that anybody could replay.",
        killer=f"{HANDLER}::test_lets_the_error_decide[alarm]",
        edits=(
            Edit(
                MESSAGING,
                "        else:\n            self.redelivery.bury(message, failure)\n\n    def _failure",
                "        else:\n            self.queue_consumer.ack_message(message)\n\n    def _failure",
            ),
        ),
    ),
    Mutant(
        name="retry-acknowledged-unseen",
        mistake="A message that is put off is acknowledged although the broker did not take its copy.",
        cost="A broker that hiccups during a retry loses the event.",
        killer="tests/unit/chassis/test_redelivery.py::TestLater::test_is_acknowledged_once_the_broker_has_the_copy",
        edits=(Edit(REDELIVERY, 'refused = {0: "the broker does not answer"}', "refused = {}"),),
    ),
    Mutant(
        name="inbox-outside-the-transaction",
        mistake="The inbox row is committed before the handler's change.",
        cost="A handler that fails is never run again: its event counts as answered.",
        killer="tests/integration/chassis/test_unit_of_work.py::TestOnce::test_a_failure_was_no_first_time",
        edits=(
            Edit(
                WORK,
                "            correlation = sane_correlation_id(",
                "            session.commit()\n            correlation = sane_correlation_id(",
            ),
        ),
    ),
    Mutant(
        name="no-outbox",
        mistake="Events are published directly after the commit, and written nowhere.",
        cost="A process that dies with its commit has changed an order that nobody else hears of.",
        killer=f"{STEPS}::TestCommit::test_leaves_both_when_the_process_dies_with_it",
        edits=(
            Edit(
                WORK,
                "        if self._events:\n"
                "            self.session.flush()\n"
                "            outbox.add(self.session, self._events, self.trace)\n"
                "        self.session.commit()\n",
                "        self.session.commit()\n",
            ),
            Edit(WORK, "            self._relay.wake()", "            self._relay.send(work._events)"),
            Edit(RELAY, "from services.chassis import outbox\n", "from services.chassis import outbox, wire\n"),
            Edit(
                RELAY,
                "    def _message(self, row",
                "    def send(self, events: Sequence[outbox.Event]) -> None:\n"
                '        exchange = f"{self.container.service_name}.events"\n'
                "        self._publisher.publish(\n"
                "            [Message(exchange, each.event_type, wire.encode_checked(each)) for each in events]\n"
                "        )\n\n"
                "    def _message(self, row",
            ),
        ),
    ),
    Mutant(
        name="relay-by-cursor",
        mistake="The relay remembers the number of the last row it carried, and goes on from there.",
        cost="A row that was written earlier and committed later stays for ever.",
        killer=f"{STEPS}::TestCarry::test_takes_what_was_written_first_and_committed_last",
        edits=(
            Edit(
                RELAY,
                "        self._backoff = 0.0\n\n    def attach",
                "        self._backoff = 0.0\n        self._cursor = 0\n\n    def attach",
            ),
            Edit(
                RELAY,
                "            rows = outbox.take(connection)\n",
                "            rows = [row for row in outbox.take(connection) if row.id > self._cursor]\n"
                "            self._cursor = max([self._cursor, *(row.id for row in rows)])\n",
            ),
        ),
    ),
    Mutant(
        name="refused-marked-as-published",
        mistake="A row is marked as published whatever the broker said of it.",
        cost="An event that no queue took is never sent again.",
        killer=f"{STEPS}::TestCarry::test_marks_only_what_the_broker_took",
        edits=(
            Edit(
                RELAY, "[row.id for index, row in enumerate(rows) if index not in refused]", "[row.id for row in rows]"
            ),
        ),
    ),
    Mutant(
        name="no-mandatory-flag",
        mistake="Events are published without the mandatory flag.",
        cost="While a queue or its binding is missing, the broker throws events away and confirms them.",
        killer=f"{PUBLISHER}::test_names_what_no_queue_wants",
        edits=(Edit(BROKER, "mandatory=True", "mandatory=False"),),
    ),
    Mutant(
        name="no-publisher-confirm",
        mistake="Nobody waits for the broker's confirms.",
        cost="What the broker reads and cannot keep is lost, and marked as published.",
        killer=f"{PUBLISHER}::test_names_what_the_broker_refuses",
        edits=(
            Edit.drop(BROKER, "            channel.confirm_select()\n"),
            Edit.drop(BROKER, "            self._pending[self._sent] = index\n"),
        ),
    ),
)
