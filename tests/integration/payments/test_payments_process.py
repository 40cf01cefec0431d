import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange
from kombu.messaging import Producer

from cli.servers.vhosts import Vhost
from cli.topology import apply
from events import OrderEvent
from services.chassis import wire
from services.chassis.topology import derive
from services.inventory.service import InventoryService
from services.orders.service import OrdersService
from services.payments.service import PaymentsService
from tests.integration.payments.bench import PaymentsBench, a_cancelled, a_reserved

ROOT = Path(__file__).parents[3]
PASSWORD = "a-test-broker-password"


class PaymentsProcess:
    """``nameko run services.payments.service`` as the cluster runs it, on a virtual host of its own."""

    def __init__(self, folder: Path, vhost: Vhost, redis_url: str, database_url: str, **settings: str) -> None:
        self.vhost = vhost
        self.bench = PaymentsBench(database_url)
        self.log = folder / "payments.log"
        topology = derive([OrdersService, InventoryService, PaymentsService], [1000, 5000, 30000])
        apply(topology, vhost.management, vhost.name, {user.name: PASSWORD for user in topology.users})
        self.environment = {
            **os.environ,
            "AMQP_URI": vhost.amqp_url,
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "HTTP_PORT": "0",
            **settings,
        }
        self.config = folder / "config.yaml"
        more = "PROCESSOR_AT_ONCE: 10\nPROCESSOR_RETRY_SECONDS: 0.2\n"
        self.config.write_text((ROOT / "config.yaml").read_text() + more)
        self.start()

    def start(self) -> None:
        """Start it, without waiting."""
        command = [sys.executable, "-W", "ignore", "-m", "nameko", "run", "--config", str(self.config)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "services.payments.service"], cwd=ROOT, env=self.environment, stderr=log
            )

    def stop(self) -> int:
        """End it gracefully; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait(5)

    def publish(self, event: OrderEvent) -> None:
        """What inventory's or orders' relay would do."""
        exchange = Exchange(f"{event.publisher}.events", "topic", passive=True)
        with Connection(self.vhost.amqp_url) as connection:
            producer = Producer(connection, exchange=exchange, auto_declare=False)
            producer.publish(
                wire.encode(event), event.event_type, content_type="application/json", content_encoding="utf-8"
            )

    def until(self, wish: Callable[[], Any], seconds: float = 20.0) -> None:
        """Wait until the wish is true; fail with the log."""
        deadline = time.monotonic() + seconds
        while not wish():
            if time.monotonic() > deadline:
                pytest.fail(f"not in {seconds} s\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def status(self, order: OrderEvent) -> str | None:
        """The status of the order's payment."""
        rows = self.bench.rows("SELECT status FROM payments WHERE order_id = :id", id=str(order.order_id))
        return rows[0].status if rows else None


@pytest.fixture
def payments_process(
    tmp_path: Path, vhost: Vhost, redis_url: str, fresh_database: Callable[[str], str]
) -> Iterator[PaymentsProcess]:
    """One process of payments that is quick to give up."""
    settings = {"PROCESSOR_ANSWER_SECONDS": "3", "PROCESSOR_LEASE_SECONDS": "4", "PROCESSOR_SLOW_SECONDS": "2"}
    process = PaymentsProcess(tmp_path, vhost, redis_url, fresh_database("payments"), **settings)
    yield process
    if process.process.poll() is None:
        process.kill()
    process.bench.close()


class TestProcess:
    """The service as it runs."""

    def test_charges_and_refunds_as_soon_as_it_is_told(self, payments_process: PaymentsProcess) -> None:
        """One slow charge holds up none of the others, and the end comes when asked for."""
        slow, orders = a_reserved("pm_slow"), [a_reserved() for _ in range(20)]
        payments_process.publish(slow)
        payments_process.until(lambda: payments_process.status(slow) == "processing")

        for order in orders:
            payments_process.publish(order)
        payments_process.until(lambda: all(payments_process.status(order) == "captured" for order in orders))
        assert payments_process.status(slow) in ("processing", "captured")
        payments_process.publish(a_cancelled(orders[0]))
        payments_process.until(lambda: payments_process.status(orders[0]) == "refunded")
        payments_process.until(lambda: payments_process.status(slow) == "captured")

        assert payments_process.stop() == 0

    def test_charges_once_when_killed_after_the_charge(self, payments_process: PaymentsProcess) -> None:
        """The next process finds the first answer, when the lease has run out."""
        order = a_reserved("pm_slow")
        payments_process.publish(order)
        payments_process.until(lambda: payments_process.bench.booked(order)[0] == ["charged"])
        assert payments_process.status(order) == "processing"

        payments_process.kill()
        payments_process.start()

        payments_process.until(lambda: payments_process.status(order) == "captured")
        assert payments_process.bench.attempts(order) == [("charge", 1, None), ("charge", 2, "charged")]
        assert payments_process.bench.outbox(order) == ["PaymentProcessedEvent"]
