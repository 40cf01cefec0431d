"""The six services as the command line knows them: their modules, classes and ports."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from cli.trouble import Trouble


@dataclass(frozen=True)
class Service:
    """One service: what to run, and the ports it has when they are free."""

    name: str
    module: str
    class_name: str
    http_port: int
    https_port: int


SERVICES: Final[Mapping[str, Service]] = {
    service.name: service
    for service in (
        Service("gateway", "gateway", "GatewayService", 5011, 5010),
        Service("users", "services.users.service", "UsersService", 5000, 5001),
        Service("orders", "services.orders.service", "OrdersService", 5002, 5003),
        Service("inventory", "services.inventory.service", "InventoryService", 5004, 5005),
        Service("payments", "services.payments.service", "PaymentsService", 5006, 5007),
        Service("notifications", "services.notifications.service", "NotificationsService", 5008, 5009),
    )
}
OPERATOR: Final = "operator"
"""The broker user of ``./oms shell``: no service, but it may dispatch every service's events."""


def service_of(instance: str) -> Service:
    """The service of an instance's name: ``orders`` for ``orders-2``."""
    return SERVICES[instance.partition("-")[0]]


def service_classes() -> list[type]:
    """The Nameko classes of all six."""
    try:
        return [getattr(import_module(service.module), service.class_name) for service in SERVICES.values()]
    except ImportError as error:
        raise Trouble(f"A service cannot be imported: {error}. Is the checkout complete?") from error
