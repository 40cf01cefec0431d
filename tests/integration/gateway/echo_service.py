"""A service without business, to try what the chassis' HTTP does with good and bad clients."""

from pathlib import Path
from typing import Any

import eventlet

from services.chassis.config import Setting
from services.chassis.errors import Conflict, TimedOut, Unavailable
from services.chassis.http import Request, Response, http, json_object, reply, tagged
from services.chassis.probes import Probes
from services.chassis.provider import Provider


class Mood(Provider[None]):
    """A dependency as ready as a file says: empty, "hang", or what is missing."""

    def setup(self) -> None:
        """Find the file."""
        self.file = Path(self.container.config["MOOD_FILE"])

    def check_ready(self) -> str | None:
        """What the file says."""
        mood = self.file.read_text()
        if mood == "hang":
            eventlet.sleep(60)
        return mood or None

    def get_dependency(self, worker_ctx: Any) -> None:
        """Nothing."""


class Indifferent(Mood):
    """Never there, never needed."""

    optional_dependency = True

    def check_ready(self) -> str | None:
        """What is missing."""
        return "not there"


class Context(Provider[dict[str, Any]]):
    """Injects what travels with the call."""

    def get_dependency(self, worker_ctx: Any) -> dict[str, Any]:
        """The context data."""
        return dict(worker_ctx.context_data)


class EchoService:
    """Says what it hears."""

    name = "echo"

    probes = Probes()
    mood = Mood()
    indifferent = Indifferent()
    context = Context()
    pause = Setting("ECHO_PAUSE_SECONDS", float)

    @http("POST", "/echo")
    def say(self, request: Request) -> Response:
        """The object that was sent."""
        return reply(201, json_object(request))

    @http("GET", "/echo/<uuid:item_id>")
    def show(self, request: Request, item_id: object) -> Response:
        """The id, with its tag."""
        return tagged(request, {"id": item_id, "query": request.query})

    @http("GET", "/context")
    def show_context(self, request: Request) -> Response:
        """What would travel with an RPC."""
        return reply(200, self.context)

    @http("GET", "/slow")
    def wait(self, request: Request) -> Response:
        """An answer after a pause."""
        eventlet.sleep(self.pause)
        return reply(200, {"waited": True})

    @http("GET", "/broken")
    def fail(self, request: Request) -> Response:
        """A bug with a secret in it."""
        raise KeyError("canary-secret")

    @http("GET", "/conflict")
    def refuse(self, request: Request) -> Response:
        """An illegal transition."""
        raise Conflict("illegal_transition", "No.", {"from": "Shipped", "to": "Cancelled", "allowed": []})

    @http("GET", "/away")
    def be_away(self, request: Request) -> Response:
        """A passing failure."""
        raise Unavailable("orders_away", "Orders is away.", {"retry_after": 3})

    @http("GET", "/late")
    def be_late(self, request: Request) -> Response:
        """A silent service."""
        raise TimedOut("orders_silent", "Orders did not answer in time.")
