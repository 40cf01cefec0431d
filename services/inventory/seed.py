"""A new cluster's catalogue: a dozen products with the same ids everywhere, one sold out, one with its last unit."""

from datetime import UTC, datetime
from typing import Final, NamedTuple
from uuid import UUID, uuid5

from sqlalchemy import NullPool, create_engine
from sqlalchemy.orm import Session

from services.chassis.tracing import Trace
from services.chassis.work import Work
from services.inventory.models import Product
from services.inventory.repository import ProductRepository

CATALOGUE: Final = UUID("6f6d7300-0000-5000-8000-000000000004")
"""Namespace of the seeded products' ids, see :func:`product_id`."""


class Seed(NamedTuple):
    """One product of the first catalogue."""

    name: str
    description: str
    unit_price_cents: int
    on_hand: int


SEEDS: Final = (
    Seed("Desk lamp", "Warm light, a heavy foot, a switch that clicks.", 3_490, 120),
    Seed("Walnut desk", "160 by 80 cm, oiled, height adjustable.", 64_900, 12),
    Seed("Office chair", "Mesh back, five castors, every lever labelled.", 28_900, 25),
    Seed("Mechanical keyboard", "87 keys, hot-swappable, quiet enough for a shared room.", 11_900, 60),
    Seed("Wireless mouse", "Three buttons and a wheel; a year on one battery.", 3_990, 200),
    Seed("27 inch monitor", "2560 by 1440, matt, stands on one foot.", 27_900, 30),
    Seed("USB-C dock", "Eleven ports and one cable.", 14_950, 45),
    Seed("Noise-cancelling headphones", "Thirty hours of quiet.", 19_900, 40),
    Seed("Notebook", "Dotted paper, 192 pages, lies flat.", 1_250, 1_000),
    Seed("Fountain pen", "Steel nib, takes any cartridge.", 4_200, 80),
    Seed("Limited print", "Number 50 of 50; the last one.", 9_900, 1),
    Seed("Vintage typewriter", "Serviced and inked; sold out until another turns up.", 34_500, 0),
)


def product_id(name: str) -> UUID:
    """The id that the seeded product of that name has in every cluster."""
    return uuid5(CATALOGUE, name)


def seed(database_url: str, currency: str = "EUR") -> int:
    """How many products were new: adds what is missing of the catalogue with its stock, and changes nothing else."""
    now = datetime.now(UTC)
    engine = create_engine(database_url, poolclass=NullPool)
    with Session(engine, expire_on_commit=False) as session:
        products = [make_product(each, currency, now) for each in SEEDS]
        added = ProductRepository(session).add_received(products, reason="first catalogue", actor="seed", at=now)
        work = Work(session, Trace("seed"))
        work.publish(*(product.changed(at=now) for product in added))
        work.commit()
    engine.dispose()
    return len(added)


def make_product(each: Seed, currency: str, at: datetime) -> Product:
    """The product with all its stock, not stored yet."""
    values = {"name": each.name, "description": each.description, "unit_price_cents": each.unit_price_cents}
    product = Product.new(values, currency=currency, at=at)
    product.id = product_id(each.name)
    product.on_hand = each.on_hand
    return product
