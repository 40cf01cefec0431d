"""One cluster in the care of its operator: ``./oms doctor`` and ``./oms dead-letters``, as at the command line."""

import io
import json
import shlex
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from cli.__main__ import run
from cli.topology import apply, wanted
from services.chassis.topology import Subscription
from tests.faults.crowd import make_crowd
from tests.support.client import Client
from tests.support.cluster import BROKER_PASSWORD, Cluster
from tests.support.evidence import mails
from tests.support.operator import Operator
from tests.support.until import eventually

HEALED_SECONDS: Final = 90.0
PATIENT: Final = {"SETTLEMENT_FIRST_SECONDS": "3600"}


class Clinic:
    """The cluster, those who work with it, and what its doctor says."""

    def __init__(self, cluster: Cluster, operator: Operator, admin: Client, folder: Path) -> None:
        self.cluster = cluster
        self.operator = operator
        self.admin = admin
        self.folder = folder
        (self.customer,) = make_crowd(cluster, 1)
        urls = cluster.place.database_urls
        self._note("operator", AMQP_URI=operator.amqp_url, MANAGEMENT_URL=cluster.place.vhost.management.url)
        self._note("notifications", MAILBOX_DIR=str(cluster.mailbox))
        for service, url in urls.items():
            self._note(service, DATABASE_URL=url)

    def _note(self, name: str, **variables: str) -> None:
        lines = [f"{variable}={shlex.quote(value)}\n" for variable, value in variables.items()]
        (self.folder / name).write_text("".join(lines))

    # --- what is done to the cluster

    def start(self, *services: str) -> None:
        """These services at work, none of which reminds of cancelled orders before the doctor has seen them."""
        self.cluster.start(*services, environment=PATIENT)

    def sold(self, product: str = "") -> str:
        """The id of a new order that is confirmed, and everybody knows it."""
        order_id = self.customer.place(product or self.admin.add_product(stock=1))
        self.customer.wait_for(order_id, "Confirmed", seconds=60)
        eventually(lambda: len(mails(self.cluster, order_id)) == 2, "mails", 60)
        return order_id

    def about(self, order_id: str) -> dict[str, Any]:
        """What every event about the order says."""
        return {"order_id": order_id, "user_id": self.customer.user_id}

    def slip(self, event: str, service: str, payload: dict[str, Any]) -> None:
        """Give the event to this subscriber alone."""
        self.operator.slip(self.subscription(event, service).queue, service, payload, str(uuid4()))

    def cut(self, event: str, service: str) -> AbstractContextManager[None]:
        """While the block runs the exchange does not know the subscriber."""
        return self.operator.cut(self.subscription(event, service))

    def subscription(self, event: str, service: str) -> Subscription:
        """How the service hears of the event."""
        (found,) = (each for each in self.cluster.subscriptions() if (each.event, each.service) == (event, service))
        return found

    @contextmanager
    def unheard(self, event: str, service: str) -> Iterator[None]:
        """While the block runs the event goes to a queue that nobody reads, and not to the service."""
        subscription = self.subscription(event, service)
        vhost, broker, nowhere = self.operator.vhost, self.cluster.broker, f"nowhere-{event}-{service}"
        broker.put("queues", vhost, nowhere, body={"durable": True})
        where = ("bindings", vhost, "e", f"{subscription.source}.events", "q", nowhere)
        broker.post(*where, body={"routing_key": event, "arguments": {}})
        try:
            with self.operator.cut(subscription):
                yield
        finally:
            broker.delete("queues", vhost, nowhere)

    def unbind(self, event: str, service: str) -> None:
        """Let the exchange not know the subscriber any more."""
        each = self.subscription(event, service)
        where = ("bindings", self.operator.vhost, "e", f"{each.source}.events", "q", each.queue)
        self.cluster.broker.delete(*where, event)

    def apply_topology(self) -> None:
        """Make everything in the broker that the code says."""
        topology, vhost = wanted(), self.cluster.place.vhost
        apply(topology, vhost.management, vhost.name, {user.name: BROKER_PASSWORD for user in topology.users})

    def fault(self, target: str, call: str, kind: str) -> None:
        """Let the processor do so to every such call about the order."""
        row = "INSERT INTO processor.faults (target, call, kind, times) VALUES (%s, %s, %s, 1000000)"
        self.cluster.execute("payments", row, target, call, kind)

    def no_faults(self) -> None:
        """Let the processor be as it should."""
        self.cluster.execute("payments", "DELETE FROM processor.faults")

    def rows(self, service: str, query: str, *values: object) -> list[dict[str, Any]]:
        """What the service's database says."""
        return self.cluster.rows(service, query, *values)

    def until(self, service: str, query: str, *values: object) -> None:
        """Wait until the service's database finds something."""
        eventually(lambda: self.rows(service, query, *values), query, HEALED_SECONDS)

    # --- what is said of it, and done about it

    def oms(self, *arguments: str) -> tuple[int, str]:
        """The exit code of the command and what it printed."""
        name, *rest = arguments
        out = io.StringIO()
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            code = run(name, [*rest, "--env", str(self.folder)])
        return code, out.getvalue()

    def doctor(self, *arguments: str) -> dict[str, list[dict[str, Any]]]:
        """What is wrong: the findings of every broken check."""
        code, said = self.oms("doctor", "--json", "--quiet-seconds", "0", *arguments)
        document = json.loads(said)
        found = {each["name"]: each["findings"] for each in document["checks"] if each["broken"]}
        assert (code, document["healthy"], document["notLookedAt"]) == (int(bool(found)), not found, [])
        return found

    def checks(self) -> set[str]:
        """The names of all that the doctor looks at."""
        _, said = self.oms("doctor", "--json", "--quiet-seconds", "0")
        return {each["name"] for each in json.loads(said)["checks"]}

    def until_named(self, *names: str) -> dict[str, list[dict[str, Any]]]:
        """What the doctor says as soon as all these checks are named."""
        found: dict[str, list[dict[str, Any]]] = {}

        def look() -> bool:
            found.clear()
            found.update(self.doctor())
            return set(names) <= set(found)

        eventually(look, f"named: {names}", HEALED_SECONDS)
        return found

    def until_content(self) -> None:
        """Wait until the doctor finds nothing wrong any more."""
        said: list[object] = []

        def look() -> bool:
            said[:] = [self.doctor()]
            return said == [{}]

        try:
            eventually(look, "healed", HEALED_SECONDS)
        except AssertionError:
            assert said == [{}]
            raise

    def repair(self) -> None:
        """Tell again whatever the doctor says was missed."""
        self.doctor("--repair", "--yes")

    def letters(self, kind: str = "", count: int = 1) -> list[dict[str, Any]]:
        """The dead letters of that kind, as soon as there are so many."""

        def look() -> tuple[list[dict[str, Any]]] | None:
            _, said = self.oms("dead-letters", "list", "--json")
            found = [letter for letter in json.loads(said) if kind in ("", letter["kind"])]
            return (found,) if len(found) >= count else None

        (found,) = eventually(look, f"{count} dead letters", HEALED_SECONDS)
        return found

    def replay(self, letter: dict[str, Any]) -> None:
        """Deliver it to its handler once more."""
        code, said = self.oms("dead-letters", "replay", letter["id"])
        assert code == 0, said

    def discard(self, *letters: dict[str, Any]) -> None:
        """Throw them away, for a reason."""
        ids = [letter["id"] for letter in letters]
        code, said = self.oms("dead-letters", "discard", *ids, "--reason", "a test made it by hand")
        assert code == 0, said
