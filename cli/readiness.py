"""Whether a service is ready: its own answer at ``/readyz``."""

from dataclasses import dataclass

import requests

from cli.servers.ports import LOOPBACK

SECONDS = 3


@dataclass(frozen=True)
class Readiness:
    """What a service says of itself."""

    ready: bool
    reason: str = ""


def direct_session() -> requests.Session:
    """Connections past every proxy that the environment names: a proxy for the world is none for this machine."""
    session = requests.Session()
    session.trust_env = False
    return session


def ask(port: int | str) -> Readiness:
    """The answer of the service at this port."""
    try:
        answer = direct_session().get(f"http://{LOOPBACK}:{port}/readyz", timeout=SECONDS)
    except requests.ConnectionError:
        return Readiness(ready=False, reason="does not answer yet")
    except requests.RequestException as error:
        return Readiness(ready=False, reason=str(error))
    if answer.status_code == requests.codes.ok:
        return Readiness(ready=True)
    return Readiness(ready=False, reason=" ".join(answer.text.split())[:300] or f"status {answer.status_code}")
