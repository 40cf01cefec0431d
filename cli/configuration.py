"""``config.yaml`` as Nameko reads it, for what the command line must know of it."""

from typing import Any

import yaml
from nameko.cli.main import setup_yaml_parser

from cli.state import CHECKOUT
from services.chassis.config import broker_tls


def configuration() -> dict[str, Any]:
    """Every setting, with the environment's values."""
    setup_yaml_parser()
    with (CHECKOUT / "config.yaml").open() as file:
        settings: dict[str, Any] = yaml.safe_load(file)
    return {**settings, "AMQP_SSL": broker_tls(settings)}
