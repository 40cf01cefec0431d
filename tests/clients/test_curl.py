"""The curl collection, run by the real curl against the real gateway."""

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from cli.state import CHECKOUT
from tests.clients.routes import endpoints, watched
from tests.clients.test_client_streams import Stream, entry, serving
from tests.support.cluster import ADMIN_EMAIL, ADMIN_PASSWORD, Cluster
from tests.support.curl import folder_of_curl
from tests.support.until import eventually

pytestmark = pytest.mark.usefixtures("holds_together")

SCRIPT: Final = CHECKOUT / "clients" / "curl" / "oms.sh"
SECONDS: Final = 60


class Person:
    """Somebody at a terminal, with a session of their own."""

    def __init__(self, url: str, folder: Path, password: str = "") -> None:
        self.folder = folder
        self.session = folder / "deep" / "session"
        self.environment = {
            "PATH": f"{folder_of_curl(folder)}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "OMS_URL": url,
            "OMS_SESSION": str(self.session),
            "OMS_PASSWORD": password or f"{secrets.token_hex(8)} \"quoted\" \\ 'and' $so on",
            "no_proxy": "*",
        }

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """What became of it."""
        return subprocess.run(
            [SCRIPT, *command],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def text(self, *command: str, **environment: str) -> str:
        """What it prints; it has to end well."""
        done = self.run(*command, **environment)
        assert (done.returncode, done.stderr) == (0, ""), f"{command}: {done}"
        return done.stdout

    def json(self, *command: str, **environment: str) -> dict[str, Any]:
        """The document that it prints."""
        document: dict[str, Any] = json.loads(self.text(*command, **environment))
        return document

    def wait_for(self, order: str, name: str, value: str) -> None:
        """Ask for the order until it is so."""
        eventually(lambda: self.json("order", order)[name] == value, f"{name} {value} of {order}", SECONDS)


@pytest.fixture
def ada(cluster: Cluster, tmp_path: Path) -> Person:
    """A customer to be."""
    (tmp_path / "ada").mkdir()
    return Person(cluster.url, tmp_path / "ada")


@pytest.fixture
def boss(cluster: Cluster, tmp_path: Path) -> Person:
    """The administrator, logged in."""
    (tmp_path / "boss").mkdir()
    person = Person(cluster.url, tmp_path / "boss", ADMIN_PASSWORD)
    person.json("login", ADMIN_EMAIL)
    return person


class TestCollection:
    """A command for each endpoint."""

    def test_has_every_endpoint(self, cluster: Cluster, ada: Person, boss: Person) -> None:
        """All of them, as customers, staff and administrators use them."""
        with watched(cluster) as reached:
            boss.json("login", ADMIN_EMAIL)
            play(ada, boss)

        assert endpoints() <= set(reached)

    def test_places_one_order_under_one_key(self, ada: Person, boss: Person) -> None:
        """Run again, it shows the same order."""
        lamp = a_lamp(boss)
        ada.json("register", f"{secrets.token_hex(8)}@example.com")

        first = ada.json("place", lamp, OMS_KEY="only-once")
        second = ada.json("place", lamp, OMS_KEY="only-once")
        third = ada.json("place", lamp)

        assert first["id"] == second["id"]
        assert third["id"] != first["id"]

    def test_shows_a_refusal(self, ada: Person) -> None:
        """The problem document, and an exit code that a script notices."""
        ada.json("register", f"{secrets.token_hex(8)}@example.com")

        refused = ada.run("order", str(uuid4()))
        wrong = ada.run("login", f"{secrets.token_hex(8)}@example.com", OMS_PASSWORD="wrong-password")

        assert (refused.returncode, json.loads(refused.stdout)["status"]) == (22, 404)
        assert (wrong.returncode, json.loads(wrong.stdout)["status"]) == (22, 401)
        assert ada.json("me")["role"] == "customer"

    def test_follows_a_stream(self, ada: Person) -> None:
        """As it comes, from where it is told to."""
        ada.json("register", f"{secrets.token_hex(8)}@example.com")

        with serving(Stream(chunks=[entry(3), entry(4)])) as server:
            shown = ada.text("follow", str(uuid4()), "2", OMS_URL=server.url)

        assert shown == (entry(3) + entry(4)).decode()
        assert server.asked == ["2"]


def a_lamp(boss: Person) -> str:
    """The id of a product with five on the shelf."""
    lamp = boss.json("create-product", f"Lamp {secrets.token_hex(4)}", "34.90", 'A "warm"\nlight \\ a heavy foot')
    assert lamp["description"] == 'A "warm"\nlight \\ a heavy foot'
    boss.json("adjust", lamp["id"], "5", "delivered")
    return str(lamp["id"])


def play(ada: Person, boss: Person) -> None:
    """Everything that can be asked of the API."""
    email = f"{secrets.token_hex(8)}@example.com"
    user = ada.json("register", email, 'Ada "the first"')["userId"]
    assert ada.json("login", email) == {"userId": user}
    before = ada.session.read_text()
    assert ada.json("refresh") == {"userId": user}
    assert ada.session.read_text() != before
    assert ada.session.stat().st_mode & 0o777 == 0o600
    assert (ada.json("me")["id"], ada.json("me")["firstName"]) == (user, 'Ada "the first"')

    lamp = a_lamp(boss)
    changed = boss.json("change-product", lamp, '{"price": 29.95}')
    assert changed["price"] == 29.95
    assert lamp in [each["id"] for each in ada.json("products", f"q={changed['name'].replace(' ', '%20')}")["items"]]
    assert ada.json("product", lamp)["price"] == 29.95

    order = ada.json("place", lamp, "2")["id"]
    ada.wait_for(order, "status", "Confirmed")
    head, _, _ = ada.text("order", order, OMS_CURL="--include").partition("\n\n")
    (etag,) = [line[6:].strip() for line in head.splitlines() if line.startswith("ETag: ")]
    assert ada.text("order", order, etag) == ""
    assert boss.json("stock", lamp, "limit=1")["reserved"] == 2
    assert boss.json("ship", order, "a-parcel")["status"] == "Shipped"
    assert boss.json("deliver", order)["status"] == "Delivered"
    assert ada.json("journey", order)["status"] == "Delivered"
    assert "Delivered" in ada.text("follow", order)

    other = ada.json("place", lamp)["id"]
    ada.wait_for(other, "status", "Confirmed")
    assert ada.json("cancel", other, "a change\nof mind")["status"] == "Cancelled"
    ada.wait_for(other, "paymentStatus", "Refunded")
    assert [each["id"] for each in ada.json("orders", "limit=5")["items"]] == [other, order]

    assert boss.json("change-user", user, '{"role": "staff"}')["role"] == "staff"
    assert ada.json("login", email) == {"userId": user}
    assert ada.text("logout") == ""
    assert not ada.session.exists()


class TestScript:
    """What a person at a terminal runs into."""

    def test_lists_its_commands(self, ada: Person) -> None:
        """Every one of them, and nothing that is its own business."""
        listed = [line.partition(":")[0].split()[0] for line in ada.text("help").splitlines()]

        assert {"register", "refresh", "place", "follow", "change-product"} <= set(listed)
        assert {"call", "as_me", "enter", "token", "text"}.isdisjoint(listed)
        assert ada.text() == ada.text("help")

    def test_says_what_is_missing(self, ada: Person) -> None:
        """Before anything is sent."""
        assert (ada.run("adjust", "1", "2").returncode, ada.run("nothing").returncode) == (2, 2)
        assert "ORDER_ID" in ada.run("cancel").stderr
        assert ada.run("call", "GET", "/").returncode == 2
        assert "log" in ada.run("me").stderr

    def test_says_what_curl_says(self, ada: Person, unused_port: int) -> None:
        """When nobody is there, for instance; and keeps no session then."""
        done = ada.run("login", "ada@example.com", OMS_URL=f"http://127.0.0.1:{unused_port}")

        assert (done.returncode, done.stdout) == (7, "")
        assert not ada.session.exists()

    def test_tells_nobody_a_secret(self, ada: Person) -> None:
        """Neither password nor token is an argument of curl, where everybody on the machine could read it."""
        spy = ada.folder / "spy" / "curl"
        spy.parent.mkdir()
        spy.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >>"$HOME/seen"\nPATH=${PATH#*:} exec curl "$@"\n')
        spy.chmod(0o755)
        spied = {"PATH": f"{spy.parent}:{ada.environment['PATH']}"}

        ada.json("register", f"{secrets.token_hex(8)}@example.com", **spied)
        kept = json.loads(ada.session.read_text())
        ada.json("me", **spied)
        ada.json("refresh", **spied)

        seen = (ada.folder / "seen").read_text()
        secret = [ada.environment["OMS_PASSWORD"], kept["token"], kept["refreshToken"]]
        assert "/api/auth/refresh" in seen
        assert [each for each in secret if each in seen] == []
