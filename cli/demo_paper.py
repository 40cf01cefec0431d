"""How the demo's stories look on a terminal: plain text in columns, with colour only where somebody can see it."""

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from cli.demo_door import Json
from cli.demo_shop import Told
from cli.demo_stories import Story

COLOURS: Final = {"bold": "1", "dim": "2", "good": "32", "bad": "31", "sent": "36"}
RULE: Final = "-" * 100


class Paper:
    """Writes to standard output; colour when it is a terminal and NO_COLOR is not set (https://no-color.org)."""

    def __init__(self) -> None:
        self.colourful = sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def ink(self, text: str, colour: str) -> str:
        """The text in that colour."""
        return f"\033[{COLOURS[colour]}m{text}\033[0m" if self.colourful else text

    def write(self, *lines: str) -> None:
        """Print the lines now, also into a pipe."""
        for line in lines:
            print(line.rstrip(), flush=True)

    def heading(self, number: int, title: str, about: str) -> None:
        """What comes next."""
        self.write("", self.ink(RULE, "dim"), f"{self.ink(f'{number}. {title}', 'bold')}  {about}")

    def story(self, story: Story) -> None:
        """Every order of the story as it happened, and whether it ended as it should."""
        for told in story.orders:
            self.write("", *self._order(told))
        if story.others:
            self.write("", "   The others:", *(self._line(told) for told in story.others))
        self.write(*([""] if story.remarks else []), *(f"   {remark}" for remark in story.remarks))
        complaints = [self.ink(f"   DIFFERS  {each}", "bad") for each in story.complaints]
        self.write("", *(complaints or [self.ink("   as it should be", "good")]))

    def verdict(self, stories: int, unlike: Sequence[str], seconds: float) -> None:
        """Whether all of them ended as they should, and if not, what differed."""
        self.write("", self.ink("=" * len(RULE), "dim"))
        if unlike:
            self.write(self.ink("Not everything ended as it should:", "bad"), *(f"  {each}" for each in unlike))
        else:
            self.write(self.ink(f"All {stories} stories ended as they should, in {seconds:.1f} s.", "good"))

    def _order(self, told: Told) -> Iterator[str]:
        order = told.order
        yield f"   {told.buyer} orders {told.wish}"
        yield self.ink(f"   order {order['id']}, {money(order)}", "dim")
        yield ""
        for step in told.journey["steps"]:
            yield self._step(step, seconds_between(told.journey["steps"][0], step))
        yield ""
        for mail in told.mails:
            yield f"   {mail.channel:<8}{mail.text}{self.ink(f'  to {mail.to}', 'dim') if mail.to else ''}"
        ending = f"{order['status']}{f' ({reason})' if (reason := order['statusReason']) else ''}"
        yield f"   {self.ink(ending, 'bold')}, payment {order['paymentStatus']}"

    def _step(self, step: Json, seconds: float) -> str:
        arrow, event, remark = described(step)
        colour = "sent" if arrow == "->" else "bold" if "->" in step["outcome"] else ""
        line = f"{step['service']:<14}{arrow:<3}{event:<34}{remark}"
        return self.ink(f"   {seconds:8.3f} s  ", "dim") + (self.ink(line, colour) if colour else line)

    def _line(self, told: Told) -> str:
        steps = told.journey["steps"]
        ending = f"{told.order['status']} ({told.order['statusReason']})"
        seconds = seconds_between(steps[0], steps[-1])
        return f"   {told.buyer:<6}{ending:<28}after {seconds:.2f} s   {told.mails[0].text if told.mails else ''}"


def described(step: Json) -> tuple[str, str, str]:
    """An arrow for a message that left (->) or arrived (<-), the event, and what it did."""
    if step["service"] == "notifications":
        return "<-", step["event"], f"sent {step['note']}"
    if step["eventId"] is None:
        note = f": {step['note']}" if step["note"] and step["service"] == "orders" else ""
        return "", step["event"], f"{step['outcome']}{note}"
    tries = f" at the {step['attempt']}. attempt" if (step["attempt"] or 1) > 1 else ""
    if step["outcome"] in ("published", "waiting"):
        return "->", step["event"], f"{'' if step['outcome'] == 'published' else 'waits for the broker'}{tries}"
    return "<-", step["event"], f"{'' if step['outcome'] == 'done' else step['outcome']}{tries}"


def seconds_between(first: Json, last: Json) -> float:
    """How long after the first step the last one happened."""
    return (datetime.fromisoformat(last["at"]) - datetime.fromisoformat(first["at"])).total_seconds()


def money(order: Json) -> str:
    """The total as people write it."""
    return f"{order['totalAmount']:.2f} {order['currency']}"
