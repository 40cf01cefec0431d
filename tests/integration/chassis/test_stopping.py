"""SIGTERM ends a service in good order and in time, whatever state the world is in."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from cli.servers.private import Servers
from tests.support.theatre import QUEUE, Actor, Theatre
from tests.support.until import wait_until

PATIENCE = 3


@pytest.fixture(scope="module")
def theatre(stage: Theatre) -> Theatre:
    """Both services, with three seconds for what runs after SIGTERM."""
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
    wait_until(lambda: theatre.teller.is_ready and theatre.listener.is_ready, 30)


class TestStopping:
    """Exit code 0, well before a supervisor would lose patience."""

    def test_idle_it_ends_at_once(self, theatre: Theatre) -> None:
        """A signal wakes a process that has nothing to do."""
        outcomes = stop_both(theatre)
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 6

    def test_a_call_that_runs_is_answered(self, theatre: Theatre) -> None:
        """Before the process ends."""
        with theatre.calls() as call:
            begun = call.begin("teller.answer", {"args": ["sleep 1"], "kwargs": {}})
            call("teller.answer", "hi")

            code, _ = theatre.teller.stop()
            answer = call.wait(begun)
        theatre.teller.restart()

        assert (code, answer["result"]) == (0, "sleep 1")

    def test_a_request_that_runs_is_answered(self, theatre: Theatre) -> None:
        """Also when it waits for another service."""
        with ThreadPoolExecutor() as pool:
            asking = pool.submit(theatre.ask_over_http, "sleep 1")
            wait_until(lambda: theatre.teller.metric("oms_rpc_server_seconds_count") >= 0)
            code, _ = theatre.listener.stop()
            status, document, _ = asking.result()
        theatre.listener.restart()

        assert (code, status, document) == (0, 200, "sleep 1")

    def test_a_handler_that_hangs_is_cut_off(self, theatre: Theatre) -> None:
        """Its event is in its queue again."""
        theatre.tell("sleep 60")
        wait_until(lambda: theatre.queued(QUEUE) == 0)

        code, seconds = theatre.listener.stop()

        wait_until(lambda: theatre.queued(QUEUE) == 1)
        assert (code, seconds < 2 * PATIENCE + 3) == (0, True)
        with closing(theatre.connect()) as connection:
            connection.channel().queue_purge(QUEUE)
        theatre.listener.restart()

    def test_without_a_broker_it_ends_too(self, theatre: Theatre, private_servers: Servers) -> None:
        """With a call and an event under way."""
        theatre.tell("sleep 1")
        private_servers.kill("rabbitmq")
        wait_until(lambda: theatre.teller.readiness()[0] == 503)

        outcomes = stop_both(theatre)
        private_servers.restart("rabbitmq")
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 20

    def test_with_a_frozen_broker_it_ends_too(self, theatre: Theatre, private_servers: Servers) -> None:
        """Nothing it says to the broker is waited for without end."""
        theatre.tell("sleep 1")
        private_servers.freeze("rabbitmq")

        outcomes = stop_both(theatre)
        private_servers.thaw("rabbitmq")
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 20

    def test_with_a_frozen_database_it_ends_too(self, theatre: Theatre, private_servers: Servers) -> None:
        """Likewise."""
        private_servers.freeze("postgres")

        outcomes = stop_both(theatre)
        private_servers.thaw("postgres")
        restart_both(theatre)

        assert [code for code, _ in outcomes] == [0, 0]
        assert max(seconds for _, seconds in outcomes) < 20

    def test_a_signal_while_it_starts_is_obeyed(self, theatre: Theatre) -> None:
        """Without a trace of trouble."""
        theatre.teller.stop()
        began = time.monotonic()
        theatre.teller.start()
        wait_until(lambda: "http_listening" in theatre.teller.log.read_text().rpartition("service_stopped")[2])

        code, _ = theatre.teller.stop()
        theatre.teller.restart()

        assert (code, time.monotonic() - began < 20) == (0, True)
