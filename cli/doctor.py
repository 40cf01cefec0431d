"""``./oms doctor``: whether all that must hold in a running cluster does, and what is wrong with which order.

It only reads, and takes one moment of each database. What holds at any instant is asked of everything, what holds when
all is quiet of orders that nobody has touched for a minute. ``--repair`` tells again what somebody has missed.
"""

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cli import topology
from cli.doctor_broker import examine_broker
from cli.doctor_deliveries import BATCH, DELIVERED, Deliveries, batches
from cli.doctor_orders import CHECKS, CUSTOMER, Sums, examine_customers, examine_order
from cli.doctor_places import Places, find_places
from cli.doctor_reading import Connections, dossiers, reading
from cli.doctor_repairs import Repair, carry_out, plan
from cli.doctor_report import Check, Report
from cli.services import service_classes
from cli.trouble import Trouble
from services.chassis.invariants import QUIET_SECONDS, Invariant, breaches
from services.chassis.topology import Subscription, Topology, read_wiring
from services.inventory.invariants import INVARIANTS as INVENTORY
from services.orders.invariants import INVARIANTS as ORDERS
from services.payments.invariants import INVARIANTS as PAYMENTS

HELP = "check every invariant over the live cluster; --repair mends"
INSIDE: Final[dict[str, tuple[Invariant, ...]]] = {"orders": ORDERS, "inventory": INVENTORY, "payments": PAYMENTS}


def configure(parser: argparse.ArgumentParser) -> None:
    """--json, --watch, --repair, --yes, --env, --quiet-seconds."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="look again at that distance until Ctrl-C")
    parser.add_argument("--repair", action="store_true", help="tell again what was missed; asks before it does")
    parser.add_argument("--yes", action="store_true", help="with --repair: do not ask")
    parser.add_argument("--env", type=Path, metavar="FOLDER", help="the environment files of the cluster (.oms/env)")
    parser.add_argument(
        "--quiet-seconds",
        type=float,
        default=QUIET_SECONDS,
        metavar="SECONDS",
        help=f"how long an order must be untouched to be judged as one at rest ({QUIET_SECONDS:.0f})",
    )


def run(args: argparse.Namespace) -> int:
    """0 when nothing is wrong."""
    places = find_places(args.env)
    while True:
        try:
            report = examine(places, topology.wanted(), subscriptions(), args.quiet_seconds)
            print(report.as_json() if args.json else report.as_text(), flush=True)
            if args.repair:
                mend(plan(report), places, sure=args.yes)
        except Trouble as trouble:
            if not args.watch:
                raise
            print(f"oms: {trouble}", file=sys.stderr, flush=True)
        if not args.watch:
            return 0 if report.healthy else 1
        time.sleep(args.watch)


def subscriptions() -> list[Subscription]:
    """Which handler gets which event, as the code says."""
    return [each for service in service_classes() for each in read_wiring(service).subscriptions]


def examine(
    places: Places, wanted: Topology, heard_by: Iterable[Subscription], quiet_seconds: float = QUIET_SECONDS
) -> Report:
    """Everything that is wrong now."""
    report = Report()
    found = examine_broker(places, wanted, report)
    deliveries = Deliveries(heard_by, quiet_seconds, places.mailbox, found.given_up, found.waiting)
    with reading(places.database_urls) as connections:
        examine_inside(connections, report, quiet_seconds)
        examine_orders(connections, deliveries, report)
        deliveries.examine_products(connections, report)
        deliveries.examine_mailbox(connections, report)
    return report


def examine_inside(connections: Connections, report: Report, quiet_seconds: float) -> None:
    """What holds inside one database."""
    for service, invariants in INSIDE.items():
        report.begin(*(Check(each.name, each.sentence) for each in invariants))
        for breach in breaches(connections[service], invariants, quiet_seconds):
            report.add(Check(breach.invariant.name, breach.invariant.sentence), breach.text, **breach.row)


def examine_orders(connections: Connections, deliveries: Deliveries, report: Report) -> None:
    """What holds of every order across the databases."""
    report.begin(*CHECKS, CUSTOMER, DELIVERED)
    sums = Sums()
    for batch in batches(dossiers(connections), BATCH):
        for dossier in batch:
            report.orders += dossier.order is not None
            deliveries.examine_order(dossier, report)
            if dossier.age > deliveries.quiet_seconds:
                examine_order(dossier, report)
                if dossier.status != "Pending":
                    sums.add(dossier)
        examine_customers(batch, connections, report)
    sums.check(report)


def mend(repairs: list[Repair], places: Places, *, sure: bool) -> None:
    """Say what would be told, ask, and tell it."""
    out = sys.stderr  # what is printed may be JSON for a program
    if not repairs:
        print("Nothing of this can be mended by telling it again.", file=out)
        return
    print("To be told again, as new rows of the outboxes:", file=out)
    for repair in repairs:
        print(f"  {repair.sentence}", file=out)
    if not sure and not agreed():
        print("Nothing was done.", file=out)
        return
    told = carry_out(repairs, places.database_urls)
    print(f"{told} events are on their way. Look again in a minute: ./oms doctor", file=out)


def agreed() -> bool:
    """Whether the person at the terminal says yes; nobody there means no."""
    print("Do it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
