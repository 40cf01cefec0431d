"""What somebody wishes to order, and what it comes to.

The server sets name and price, from its own copy of the catalogue; a price the client sends is only a guard.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from events import MOST_CENTS, OrderLine
from services.chassis.errors import Conflict, InvalidInput
from services.orders.tables import Product


@dataclass(frozen=True)
class Basket:
    """What an order is placed with: priced lines, and how it is to be paid and sent."""

    lines: tuple[OrderLine, ...]
    currency: str
    payment_method: str
    shipping_address: str | None = None

    @property
    def total_cents(self) -> int:
        """What it costs."""
        return sum(line.quantity * line.unit_price_cents for line in self.lines)


@dataclass(frozen=True)
class WishedLine:
    """A product somebody wants, all its lines merged.

    ``guards`` are the prices in cents they expect it to have; ``position`` is its first line in their list, from 0.
    """

    product_id: UUID
    quantity: int
    guards: frozenset[int] = frozenset()
    position: int = 0


@dataclass(frozen=True)
class Wish:
    """An order as somebody asked for it, valid and not yet priced."""

    lines: tuple[WishedLine, ...]
    payment_method: str
    shipping_address: str | None = None

    @property
    def product_ids(self) -> list[UUID]:
        """The products it names, sorted."""
        return sorted(line.product_id for line in self.lines)

    def priced(self, products: Mapping[UUID, Product]) -> Basket:
        """The wish at today's prices.

        Raises InvalidInput for products nobody can buy or a sum beyond all measure, Conflict when an expected price
        is no longer the one.
        """
        self._require_available(products)
        self._require_expected_prices(products)
        basket = Basket(
            lines=tuple(_line(products[line.product_id], line.quantity) for line in self.lines),
            currency=products[self.lines[0].product_id].currency,
            payment_method=self.payment_method,
            shipping_address=self.shipping_address,
        )
        if basket.total_cents > MOST_CENTS:
            raise _refusal("total_too_large", "The order costs more than an order may.", self.lines[:1], "")
        return basket

    def _require_available(self, products: Mapping[UUID, Product]) -> None:
        missing = [
            line for line in self.lines if line.product_id not in products or not products[line.product_id].active
        ]
        if missing:
            raise _refusal("product_unavailable", "Some products cannot be bought.", missing, "/productId")
        first = products[self.lines[0].product_id]
        foreign = [line for line in self.lines if products[line.product_id].currency != first.currency]
        if foreign:
            raise _refusal("mixed_currencies", "One order has one currency.", foreign, "/productId")

    def _require_expected_prices(self, products: Mapping[UUID, Product]) -> None:
        sold = [(line, products[line.product_id]) for line in self.lines]
        changed = [product for line, product in sold if line.guards - {product.unit_price_cents}]
        if changed:
            current = [_price(product) for product in changed]
            raise Conflict("price_changed", "Some prices are not what you expect.", {"current": current})


def _line(product: Product, quantity: int) -> OrderLine:
    return OrderLine(
        product_id=product.product_id,
        product_name=product.name,
        quantity=quantity,
        unit_price_cents=product.unit_price_cents,
    )


def _price(product: Product) -> dict[str, Any]:
    return {
        "productId": str(product.product_id),
        "productName": product.name,
        "price": Decimal(product.unit_price_cents).scaleb(-2),
        "currency": product.currency,
    }


def _refusal(code: str, detail: str, lines: Iterable[WishedLine], member: str) -> InvalidInput:
    errors = [{"pointer": f"/items/{line.position}{member}", "detail": detail} for line in lines]
    return InvalidInput(code, detail, {"errors": errors})
