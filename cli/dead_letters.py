"""``./oms dead-letters``: what was given up for good, looked at, delivered again or thrown away.

It works on the broker as the operator, so the service they belong to need not run. What was replayed and discarded, by
whom and why, is written to ``dead-letters.log`` among the logs.
"""

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from amqp import Connection as AmqpConnection
from amqp.exceptions import AMQPError
from kombu.connection import Connection

from cli.doctor_places import find_amqp_ssl, find_operator_url
from cli.files import make_folder
from cli.services import service_classes
from cli.state import State, current
from cli.trouble import Trouble
from services.chassis.config import broker_tls
from services.chassis.dead_letters import DeadLetterQueue, Wanted
from services.chassis.letter import DeadLetter
from services.chassis.topology import read_wiring

HELP = "see to the messages that were given up: list, show, replay, discard"
SECONDS: Final = 15
MOST: Final = 10_000
"""So many of one service are held at a time."""

SHORTEST_REASON: Final = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """The actions list, show, replay and discard, and the filters that all of them have."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | show | replay | discard")
    listing = add(actions, "list", "one line for each, oldest first")
    listing.add_argument("--json", action="store_true", help="print them as JSON")
    add(actions, "show", "everything about one, without secrets").add_argument("id", help="its id, or how that begins")
    replaying = add(actions, "replay", "deliver one, or all that match, to the handler again; always safe")
    replaying.add_argument("id", nargs="?", default="", help="its id, or how that begins")
    replaying.add_argument("--all", action="store_true", help="all that match the filters")
    discarding = add(actions, "discard", "throw one or several away for good")
    discarding.add_argument("ids", nargs="+", metavar="ID", help="its id, or how that begins")
    discarding.add_argument("--reason", required=True, help="why; it is written down")


def add(actions: Any, name: str, text: str) -> argparse.ArgumentParser:
    """One action, with the filters that all have."""
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
    parser.add_argument("--service", default="", help="only those of this service")
    parser.add_argument("--event", default="", help="only those of this event, such as OrderCreatedEvent")
    parser.add_argument("--order", default="", help="only those of this order")
    parser.add_argument("--env", type=Path, help="a folder with the environment files of the cluster (.oms/env)")
    return parser


def run(args: argparse.Namespace) -> int:
    """0 when it was done; 1 when there is no such letter, or one could not be delivered again."""
    wanted = Wanted(event=args.event, order_id=args.order)
    names = chosen_services(args.service)
    actions: Mapping[str, Callable[..., int]] = {"list": show_list, "show": show, "replay": replay, "discard": discard}
    with connected(find_operator_url(args.env), find_amqp_ssl(args.env)) as connection:
        queues = [DeadLetterQueue(connection, name) for name in names]
        return actions[args.action](queues, wanted, args)


def chosen_services(wanted: str) -> list[str]:
    """The services that have dead letters, or the one that is wanted."""
    wirings = [read_wiring(service) for service in service_classes()]
    names = [wiring.name for wiring in wirings if wiring.subscriptions or wiring.methods]
    if wanted and wanted not in names:
        raise Trouble(f"There is no service {wanted!r} with dead letters; there are {', '.join(names)}.")
    return [wanted] if wanted else names


@contextmanager
def connected(url: str, amqp_ssl: Mapping[str, Any] | None = None) -> Iterator[AmqpConnection]:
    """A connection for the block; raises :class:`Trouble` when the broker does not answer or refuses."""
    options = {"read_timeout": SECONDS, "write_timeout": SECONDS}
    tls = broker_tls({"AMQP_URI": url, "AMQP_SSL": amqp_ssl})
    settings = Connection(url, ssl=tls, connect_timeout=SECONDS, transport_options=options)
    try:
        connection = settings.transport.establish_connection()
        try:
            yield connection
        finally:
            connection.collect()
    except (AMQPError, OSError) as error:
        raise Trouble(f"RabbitMQ at {settings.hostname}:{settings.port} does not answer: {error}.") from error


def show_list(queues: Sequence[DeadLetterQueue], wanted: Wanted, args: argparse.Namespace) -> int:
    """Print a line for each letter."""
    found = [letter for queue in queues for letter in queue.list_letters(wanted, MOST)]
    found.sort(key=lambda letter: letter.failed_at)
    if args.json:
        print(json.dumps([letter.summary() for letter in found], indent=2))
        return 0
    print(table(found) if found else "There are no dead letters.")
    hidden = sum(max(0, queue.count() - MOST) for queue in queues)
    if hidden:
        print(f"There are {hidden} more behind these.")
    return 0


def table(letters: Sequence[DeadLetter]) -> str:
    """The letters under each other."""
    lines = [f"{'ID':<18}{'FAILED AT':<21}{'HANDLER':<46}{'TRIES':>5}  {'ORDER':<38}REASON"]
    for letter in letters:
        again = f" (replayed {len(letter.history)} times before)" if letter.history else ""
        handler = letter.handler or letter.queue
        order = letter.order_id or "-"
        failed_at = letter.failed_at[:19]
        lines.append(
            f"{letter.id:<18}{failed_at:<21}{handler:<46}{letter.attempts:>5}  {order:<38}{letter.reason}{again}"
        )
    return "\n".join(lines)


def show(queues: Sequence[DeadLetterQueue], wanted: Wanted, args: argparse.Namespace) -> int:
    """Print all of one letter."""
    _, letter = only(queues, replace(wanted, id=args.id))
    print(json.dumps(letter.view(), indent=2, default=str))
    return 0


def replay(queues: Sequence[DeadLetterQueue], wanted: Wanted, args: argparse.Namespace) -> int:
    """Deliver one letter, or all that match, once more."""
    if bool(args.id) == args.all:
        raise Trouble("Say which: ./oms dead-letters replay ID, or --all (with --service, --event, --order).")
    if args.id:
        queue, letter = only(queues, replace(wanted, id=args.id))
        queues, wanted = [queue], Wanted(id=letter.id)
    total = sum(min(MOST, queue.count()) for queue in queues)
    done, stuck, state = 0, 0, current()

    def tell(letter: DeadLetter, taken: bool) -> None:  # noqa: FBT001 - the queue calls it so
        nonlocal done, stuck
        done, stuck = done + taken, stuck + (not taken)
        if not taken:
            print(f"{letter.id} stays: nobody handles {letter.queue} any more; discard it.", file=sys.stderr)
        else:
            write_down(state, "replayed", letter, "")
            progress(done, total)

    for queue in queues:
        queue.replay(wanted, MOST, tell)
    print(f"{done} replayed" + (f", {stuck} stay." if stuck else "."))
    return 1 if stuck else 0


def progress(done: int, total: int) -> None:
    """Say how far it is, on a terminal at each letter, elsewhere now and then."""
    if sys.stdout.isatty():
        print(f"\r{done} of at most {total} replayed ... ", end="", flush=True)
    elif done % 100 == 0:
        print(f"{done} of at most {total} replayed", flush=True)


def discard(queues: Sequence[DeadLetterQueue], wanted: Wanted, args: argparse.Namespace) -> int:
    """Throw letters away, one after the other."""
    reason = args.reason.strip()
    if len(reason) < SHORTEST_REASON:
        raise Trouble('A letter is thrown away for a reason: --reason "...".')
    for identifier in args.ids:
        queue, letter = only(queues, replace(wanted, id=identifier))
        write_down(current(), "discarded", letter, reason)
        if not queue.discard(Wanted(id=letter.id), getpass.getuser(), reason, MOST):
            raise Trouble(
                f"The dead letter {letter.id} was not discarded: somebody else has it, or ./oms topology --apply."
            )
        print(f"{letter.id} discarded: {letter.event} for {letter.handler or letter.queue}.", flush=True)
    return 0


def only(queues: Sequence[DeadLetterQueue], wanted: Wanted) -> tuple[DeadLetterQueue, DeadLetter]:
    """The one letter that is wanted, and where it lies; raises :class:`Trouble` when it is none or several."""
    found = [(queue, letter) for queue in queues for letter in queue.list_letters(wanted, MOST)]
    if not found:
        raise Trouble(f"There is no dead letter {wanted.id}. See ./oms dead-letters list")
    if len(found) > 1:
        raise Trouble(f"{wanted.id} is the beginning of several: {', '.join(letter.id for _, letter in found)}.")
    return found[0]


def write_down(state: State, action: str, letter: DeadLetter, reason: str) -> None:
    """Add a line to the log of what people did to dead letters; a discarded one is kept there, without secrets."""
    entry = {"at": datetime.now(UTC).isoformat(), "by": getpass.getuser(), "action": action, "reason": reason}
    told = letter.view() if action == "discarded" else letter.summary()
    with (make_folder(state.logs) / "dead-letters.log").open("a") as log:
        log.write(json.dumps(entry | {"letter": told}, default=str) + "\n")
