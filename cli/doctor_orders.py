"""What must hold of one order across the databases once nobody has touched it for a while, and of all of them together.

Each check is a name, a sentence and a function from an order's dossier to complaints, so that a test can call it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cli.doctor_reading import Connections, Dossier
from cli.doctor_report import Check, Report
from services.chassis.invariants import amount, rows
from services.users.invariants import KNOWN_USERS

Complaint = tuple[str, dict[str, Any]]
LIVE: Final = ("Confirmed", "Shipped", "Delivered")
STOCK: Final[Mapping[str, tuple[str, ...]]] = {
    "Confirmed": ("reserved",),
    "Shipped": ("shipped",),
    "Delivered": ("shipped",),
    "Cancelled": ("released", "rejected", "tombstone"),
}
HELD: Final = ("reserved", "shipped")
GIVEN_BACK: Final = ("voided", "failed", "refunded")

CUSTOMER: Final = Check("orders.customer_is_known", "Every order belongs to an account.")
TOTALS: Final = Check(
    "processor.charges_less_refunds_are_the_live_orders",
    "What the processor took, less what it gave back, is the total of the live orders.",
)


def find_wrong_stock(dossier: Dossier) -> Iterator[Complaint]:
    """A live order holds or has shipped its stock, a cancelled one holds none."""
    if dossier.status not in STOCK:
        return
    status = dossier.reservation["status"] if dossier.reservation else "unknown"
    if status not in STOCK[dossier.status]:
        wanted = " or ".join(STOCK[dossier.status])
        yield (
            f"order {dossier.order_id} is {dossier.status}, but its stock is {status} instead of {wanted}.",
            {"status": dossier.status, "reservation": status},
        )


def find_wrong_lines(dossier: Dossier) -> Iterator[Complaint]:
    """What is set aside for an order is what was ordered."""
    if dossier.order is None or dossier.reservation is None or dossier.reservation["status"] not in HELD:
        return
    ordered, held = dossier.order["lines"] or {}, dossier.reservation["lines"] or {}
    if ordered != held:
        yield (
            f"order {dossier.order_id} has the lines {ordered}, but inventory holds {held} for it.",
            {"ordered": ordered, "held": held},
        )


def find_wrong_payment(dossier: Dossier) -> Iterator[Complaint]:
    """A live order is captured in full, a cancelled one keeps no money."""
    if dossier.order is None or dossier.status not in (*LIVE, "Cancelled"):
        return
    payment = dossier.payment or {"status": "unknown", "amount_cents": None, "currency": None}
    total = (dossier.order["total_cents"], dossier.order["currency"])
    row = {"status": dossier.status, "payment": payment["status"], "amount_cents": payment["amount_cents"]}
    about = f"order {dossier.order_id} over {amount(total[0])} {total[1]} is {dossier.status}"
    if dossier.status in LIVE and payment["status"] != "captured":
        yield f"{about}, but its payment is {payment['status']} instead of captured.", row
    elif dossier.status in LIVE and (payment["amount_cents"], payment["currency"]) != total:
        yield f"{about}, but {amount(payment['amount_cents'] or 0)} {payment['currency']} was captured.", row
    elif dossier.status == "Cancelled" and payment["status"] not in GIVEN_BACK:
        refused = payment.get("refund_refused_at")
        why = f"; the processor refuses the refund since {refused}" if refused else ""
        yield f"{about}, but its payment is {payment['status']}{why}.", row


def find_wrong_charge(dossier: Dossier) -> Iterator[Complaint]:
    """In the processor's book a live order is charged and not refunded, a cancelled one is even."""
    if dossier.order is None or dossier.status not in (*LIVE, "Cancelled"):
        return
    charged, refunded = dossier.charged_cents, dossier.refunded_cents
    total = dossier.order["total_cents"]
    wanted = (total, 0) if dossier.status in LIVE else (charged, charged)
    if (charged, refunded) != wanted:
        about = f"order {dossier.order_id} over {amount(total)} {dossier.order['currency']} is {dossier.status}"
        yield (
            f"{about}, but the processor has charged {amount(charged)} and refunded {amount(refunded)} for it.",
            {"status": dossier.status, "charged_cents": charged, "refunded_cents": refunded, "total_cents": total},
        )


def find_orphans(dossier: Dossier) -> Iterator[Complaint]:
    """What is held for an order that orders does not know; what was given back is no harm."""
    if dossier.order is not None:
        return
    reservation, payment = dossier.reservation, dossier.payment
    user_id = str((reservation or payment or {}).get("user_id", ""))
    row = {"user_id": user_id, "reservation": reservation and reservation["status"]}
    row |= {"payment": payment and payment["status"], "charged_cents": dossier.charged_cents}
    row |= {"refunded_cents": dossier.refunded_cents}
    held = []
    if reservation and reservation["status"] in HELD:
        held.append(f"stock is {reservation['status']}")
    if payment and payment["status"] not in GIVEN_BACK:
        held.append(f"a payment over {amount(payment['amount_cents'] or 0)} is {payment['status']}")
    if dossier.charged_cents != dossier.refunded_cents:
        held.append(f"the processor keeps {amount(dossier.charged_cents - dossier.refunded_cents)}")
    if held:
        yield f"there is no order {dossier.order_id}, but for it {' and '.join(held)}.", row


CHECKS: Final[Mapping[Check, Callable[[Dossier], Iterator[Complaint]]]] = {
    Check("orders.stock_is_as_the_order", "A live order has its stock, a cancelled one holds none."): find_wrong_stock,
    Check("orders.lines_are_held", "What is set aside is what was ordered."): find_wrong_lines,
    Check("orders.payment_is_as_the_order", "A live order is paid in full, a cancelled one keeps nothing."): (
        find_wrong_payment
    ),
    Check(
        "processor.charge_is_as_the_order", "The processor has one charge of a live order, and none kept of others."
    ): (find_wrong_charge),
    Check("orders.nothing_is_held_for_nobody", "Nothing is held for an order that does not exist."): find_orphans,
}


@dataclass
class Sums:
    """Money over all quiet orders that are not Pending."""

    charged_cents: int = 0
    refunded_cents: int = 0
    live_cents: int = 0

    def add(self, dossier: Dossier) -> None:
        """Count this order."""
        self.charged_cents += dossier.charged_cents
        self.refunded_cents += dossier.refunded_cents
        if dossier.order and dossier.status in LIVE:
            self.live_cents += dossier.order["total_cents"]

    def check(self, report: Report) -> None:
        """Complain unless they come out even."""
        report.begin(TOTALS)
        kept = self.charged_cents - self.refunded_cents
        if kept != self.live_cents:
            report.add(
                TOTALS,
                f"charged {amount(self.charged_cents)} less refunded {amount(self.refunded_cents)} is {amount(kept)},"
                f" but the live orders come to {amount(self.live_cents)}.",
                **vars(self),
            )


def examine_order(dossier: Dossier, report: Report) -> None:
    """Every check of one quiet order."""
    for check, find in CHECKS.items():
        for text, row in find(dossier):
            report.add(check, text, order_id=dossier.order_id, **row)


def examine_customers(batch: list[Dossier], connections: Connections, report: Report) -> None:
    """Whether the customers of these orders have accounts."""
    orders = [dossier.order for dossier in batch if dossier.order]
    wanted = {str(order["user_id"]) for order in orders}
    known = {str(row["user_id"]) for row in rows(connections["users"], KNOWN_USERS, user_ids=sorted(wanted))}
    for order in orders:
        user_id = str(order["user_id"])
        if user_id not in known:
            text = f"order {order['order_id']} belongs to the account {user_id}, which does not exist."
            report.add(CUSTOMER, text, order_id=str(order["order_id"]), user_id=user_id)
