"""SIGTERM ends a service in good order and in time, whatever state the world is in."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest

from cli.servers.private import Servers
from cli.servers.programs import last_lines
from tests.support.theatre import QUEUE, Actor, Theatre
from tests.support.until import eventually

PATIENCE = 2


@pytest.fixture(scope="module")
def theatre(stage: Theatre) -> Theatre:
    """Both services, with two seconds for what runs after SIGTERM."""
    stage.open(SHUTDOWN_SECONDS=str(PATIENCE))
    return stage


def stop_both(theatre: Theatre) -> list[tuple[int, float]]:
    """Exit code and seconds of each service, terminated together."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(Actor.stop, [theatre.teller, theatre.listener]))


def restart_both(theatre: Theatre) -> None:
    """Both ready again."""
    theatre.teller.start()
    theatre.listener.start()
    eventually(lambda: theatre.teller.is_ready and theatre.listener.is_ready, seconds=30)


def has_ended(actor: Actor) -> bool:
    """Whether the service is gone; when it is not, it is told to stop once more."""
    if actor.child.alive:
        actor.child.process.terminate()
    return not actor.child.alive


class TestStopping:
    """Exit code 0, well before a supervisor would lose patience."""

    def test_idle_it_ends_at_once(self, theatre: Theatre) -> None:
        """A signal wakes a process that has nothing to do."""
        outcomes = stop_both(theatre)
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 12  # a starved machine takes its time

    def test_what_runs_is_answered(self, theatre: Theatre) -> None:
        """A request and the call it waits for, when both services are told to stop."""
        with ThreadPoolExecutor() as pool:
            asking = pool.submit(theatre.ask_over_http, "query 1")
            eventually(lambda: theatre.is_busy("teller", "active"))
            outcomes = stop_both(theatre)
            status, document, _ = asking.result()
        restart_both(theatre)

        assert ([code for code, _ in outcomes], status, document) == ([0, 0], 200, "query 1")

    def test_told_again_and_again_it_ends_as_well(self, theatre: Theatre) -> None:
        """What runs is still answered, and no further signal prevents the end."""
        with ThreadPoolExecutor() as pool:
            asking = pool.submit(theatre.ask_over_http, "query 1")
            eventually(lambda: theatre.is_busy("teller", "active"))
            for actor in (theatre.teller, theatre.listener):
                eventually(partial(has_ended, actor))
            status, document, _ = asking.result()
        logs = [last_lines(actor.log) for actor in (theatre.teller, theatre.listener)]
        restart_both(theatre)

        assert (status, document) == (200, "query 1")
        assert all("service_stopped" in log for log in logs)  # the last signal may meet what is left of the interpreter

    def test_a_handler_that_hangs_is_cut_off(self, theatre: Theatre) -> None:
        """Its event is in its queue again."""
        theatre.tell("sleep 60")
        eventually(lambda: theatre.is_busy("listener", "idle in transaction"))

        code, seconds = theatre.listener.stop()

        eventually(lambda: theatre.queued(QUEUE) == 1)
        assert (code, seconds < 2 * PATIENCE + 4) == (0, True)
        with closing(theatre.connect()) as connection:
            connection.channel().queue_purge(QUEUE)
        theatre.listener.restart()

    def test_without_a_broker_it_ends_too(self, theatre: Theatre, private_servers: Servers) -> None:
        """With a call and an event under way."""
        theatre.tell("sleep 1")
        eventually(lambda: theatre.is_busy("listener", "idle in transaction"))
        private_servers.kill("rabbitmq")
        eventually(lambda: theatre.teller.readiness()[0] == 503)

        outcomes = stop_both(theatre)
        private_servers.restart("rabbitmq")
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 20

    def test_with_everything_frozen_it_ends_too(self, theatre: Theatre, private_servers: Servers) -> None:
        """Nothing it says to the broker or the database is waited for without end."""
        theatre.tell("sleep 1")
        eventually(lambda: theatre.is_busy("listener", "idle in transaction"))
        for server in ("rabbitmq", "postgres"):
            private_servers.freeze(server)

        outcomes = stop_both(theatre)
        for server in ("rabbitmq", "postgres"):
            private_servers.thaw(server)
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 20

    def test_a_signal_while_it_starts_is_obeyed(self, theatre: Theatre) -> None:
        """In good order and at once."""
        starting = theatre.add("teller")
        eventually(lambda: "http_listening" in starting.log.read_text())

        code, seconds = starting.stop()

        assert (code, seconds < 10) == (0, True)
