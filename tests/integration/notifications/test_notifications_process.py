import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.messaging import Producer

from cli.servers.endpoints import amqp_url
from cli.servers.vhosts import Vhost
from cli.topology import apply
from events import OrderEvent
from services.chassis import wire
from services.chassis.topology import derive
from services.inventory.service import InventoryService
from services.notifications.service import NotificationsService
from services.orders.service import OrdersService
from services.payments.service import PaymentsService
from services.users.service import UsersService
from tests.integration.notifications.bench import Order
from tests.integration.users.bench import Bench as UsersBench

ROOT = Path(__file__).parents[3]
PASSWORD = "a-test-broker-password"
SERVICES = [OrdersService, InventoryService, PaymentsService, NotificationsService, UsersService]


class Processes:
    """``nameko run`` of users and notifications, each with its own broker user, on a virtual host of their own."""

    def __init__(self, folder: Path, vhost: Vhost, redis_url: str, database_url: str) -> None:
        self.folder = folder
        self.vhost = vhost
        topology = derive(SERVICES, [1000, 5000, 30000])
        apply(topology, vhost.management, vhost.name, {user.name: PASSWORD for user in topology.users})
        self.environment = {
            **os.environ,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "MAILBOX_DIR": str(folder / "mailbox"),
            "HTTP_PORT": "0",
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        """Start it, without waiting."""
        parts = urlsplit(self.vhost.amqp_url)
        url = amqp_url(f"{parts.hostname}:{parts.port}", service, PASSWORD, self.vhost.name)
        command = [sys.executable, "-W", "ignore", "-m", "nameko", "run", "--config", str(ROOT / "config.yaml")]
        with (self.folder / f"{service}.log").open("ab") as log:
            self.running[service] = subprocess.Popen(
                [*command, f"services.{service}.service"],
                cwd=ROOT,
                env=self.environment | {"AMQP_URI": url},
                stdout=log,
                stderr=log,
            )

    def stop(self, service: str, how: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        process = self.running.pop(service)
        process.send_signal(how)
        return process.wait(20)

    def publish(self, event: OrderEvent) -> None:
        """What its publisher's relay would do."""
        exchange = Exchange(f"{event.publisher}.events", "topic", passive=True)
        with Connection(self.vhost.amqp_url) as connection:
            producer = Producer(connection, exchange=exchange, auto_declare=False)
            producer.publish(
                wire.encode(event), event.event_type, content_type="application/json", content_encoding="utf-8"
            )

    def mails(self, order: Order) -> set[str]:
        """The names of all that was sent about the order."""
        return {file.name.removeprefix(f"{order.id}.") for file in (self.folder / "mailbox").glob(f"*/{order.id}.*")}

    def until(self, wish: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait until the wish is true; fail with the logs."""
        deadline = time.monotonic() + seconds
        while not wish():
            logs = "\n".join(file.read_text()[-4000:] for file in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, logs
            time.sleep(0.05)


@pytest.fixture
def database_url(fresh_database: Callable[[str], str]) -> str:
    """An empty userservice_db."""
    return fresh_database("users")


@pytest.fixture
def processes(tmp_path: Path, vhost: Vhost, redis_url: str, database_url: str) -> Iterator[Processes]:
    """Both services, not started yet."""
    processes = Processes(tmp_path, vhost, redis_url, database_url)
    yield processes
    for service in [*processes.running]:
        processes.stop(service, signal.SIGKILL)


@pytest.fixture
def order(redis_url: str, database_url: str) -> Order:
    """The order of somebody who has an account."""
    users = UsersBench(database_url, redis_url)
    order = Order()
    order.user_id = users.principal(users.register(firstName="Ann", phone="+4915112345678")).user_id
    users.stop()
    return order


class TestNotificationsProcess:
    """As the cluster runs it: with the broker between, and no more rights there than it needs."""

    def test_tells_the_customer_and_ends_when_asked(self, processes: Processes, order: Order) -> None:
        """An event while it was down, a contact asked of users over RPC, one mail for two deliveries, exit code 0."""
        confirmed = order.confirmed()
        processes.publish(confirmed)
        processes.publish(confirmed)
        for service in ("notifications", "users"):
            processes.start(service)

        processes.until(lambda: len(processes.mails(order)) == 2)
        processes.publish(order.shipped())
        processes.until(lambda: len(processes.mails(order)) == 4)

        assert processes.mails(order) == {"confirmation.eml", "confirmation.txt", "shipping.eml", "shipping.txt"}
        assert [processes.stop(service) for service in ("notifications", "users")] == [0, 0]

    def test_waits_for_users(self, processes: Processes, order: Order) -> None:
        """Nobody knows the address: the event waits, and nothing is lost when the process is killed meanwhile."""
        processes.start("notifications")
        processes.publish(order.delivered())
        processes.until(lambda: "event_put_off" in (processes.folder / "notifications.log").read_text(), 60)
        processes.stop("notifications", signal.SIGKILL)
        assert processes.mails(order) == set()

        processes.start("users")
        processes.start("notifications")

        processes.until(lambda: processes.mails(order) == {"delivery.eml", "delivery.txt"}, 60)
