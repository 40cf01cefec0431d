"""RabbitMQ's management API, as far as this system needs it. Every call says the whole wish and may be repeated."""

from typing import Any
from urllib.parse import quote

import requests

from cli.readiness import direct_session
from cli.servers.endpoints import Management
from cli.trouble import Trouble

SECONDS = 30


class Broker:
    """One broker, administered over HTTP."""

    def __init__(self, management: Management, seconds: float = SECONDS) -> None:
        self.management = management
        self.seconds = seconds
        self.session = direct_session()
        self.session.auth = (management.user, management.password)
        self.session.verify = management.authority or True

    def ask(self, method: str, *path: str, body: object = None) -> requests.Response:
        """The answer; raises :class:`Trouble` when nobody answers or the credentials are refused."""
        url = "/".join([self.management.url, "api", *(quote(part, safe="") for part in path)])
        try:
            answer = self.session.request(method, url, json=body, timeout=self.seconds)
        except requests.RequestException as error:
            raise Trouble(f"RabbitMQ's management at {self.management.url} does not answer: {error}.") from error
        if answer.status_code == requests.codes.unauthorized:
            raise Trouble(f"RabbitMQ's management at {self.management.url} refuses user {self.management.user}.")
        return answer

    def get(self, *path: str) -> Any:
        """The JSON document at that path; None when there is none."""
        answer = self.ask("GET", *path)
        if answer.status_code == requests.codes.not_found:
            return None
        return checked(answer, path).json()

    def put(self, *path: str, body: object = None) -> None:
        """Make it so."""
        checked(self.ask("PUT", *path, body=body if body is not None else {}), path)

    def post(self, *path: str, body: object) -> Any:
        """Do it; answers the JSON document that comes back, if any."""
        answer = checked(self.ask("POST", *path, body=body), path)
        return answer.json() if answer.content else None

    def delete(self, *path: str) -> None:
        """Remove it; what is not there needs no removing."""
        answer = self.ask("DELETE", *path)
        if answer.status_code != requests.codes.not_found:
            checked(answer, path)

    def make_vhost(self, vhost: str) -> None:
        """Make the virtual host, with quorum queues by default, and give this administrator every right in it."""
        if self.get("vhosts", vhost) is None:
            self.put("vhosts", vhost, body={"default_queue_type": "quorum", "defaultqueuetype": "quorum"})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.put("permissions", vhost, self.management.user, body=everything)

    def make_user(self, name: str, password: str, tags: str = "") -> None:
        """Make the user, or give it this password and these tags."""
        self.put("users", name, body={"password": password, "tags": tags})


def checked(answer: requests.Response, path: tuple[str, ...]) -> requests.Response:
    """The answer if it is a good one; raises :class:`Trouble` with the broker's reason otherwise."""
    if answer.ok:
        return answer
    try:
        reason = answer.json().get("reason", answer.text)
    except ValueError:
        reason = answer.text
    raise Trouble(f"RabbitMQ refused {answer.request.method} {'/'.join(path)}: {reason}")
