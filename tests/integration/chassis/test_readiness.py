"""A service is ready when everything it needs exists, says what is missing, and needs no restart."""

from tests.support.theatre import QUEUE, Theatre
from tests.support.until import eventually


class TestReadiness:
    """What a service says at ``/readyz``."""

    def test_names_all_that_is_missing_and_recovers(self, stage: Theatre) -> None:
        """Begun without it, and well as soon as it is there."""
        missing = {
            "queues": {QUEUE, "rpc-listener"},
            "exchanges": {"listener.events", "listener.retry.100", "listener.redeliver", "listener.dead-letters"},
        }
        for kind, names in missing.items():
            for name in names:
                stage.vhost.broker.delete(kind, stage.vhost.name, name)
        listener = stage.add("listener")

        eventually(lambda: "missing in the broker" in listener.readiness()[1])
        status, text = listener.readiness()
        stage.apply_topology()

        assert status == 503
        assert {name for names in missing.values() for name in names if name not in text} == set()
        eventually(lambda: listener.is_ready)
        listener.kill()

    def test_notices_a_queue_that_goes_away(self, theatre: Theatre) -> None:
        """In mid-work, and goes on when it is back."""
        theatre.vhost.broker.delete("queues", theatre.vhost.name, QUEUE)

        eventually(lambda: QUEUE in theatre.listener.readiness()[1])
        theatre.apply_topology()

        eventually(lambda: theatre.listener.is_ready)
        (after,) = theatre.tell("x")
        eventually(lambda: theatre.seen(after) == 1)

    def test_stops_while_it_waits_for_the_topology(self, stage: Theatre) -> None:
        """At once, and in good order."""
        stage.vhost.broker.delete("queues", stage.vhost.name, "rpc-listener")
        listener = stage.add("listener")
        eventually(lambda: "missing in the broker" in listener.readiness()[1])

        code, seconds = listener.stop()
        stage.apply_topology()

        assert (code, seconds < 10) == (0, True)
