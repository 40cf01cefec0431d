"""Letters: a message on its way to one service. Each has a bit, so that a set of letters is a number."""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from events import InventoryReleasedEvent, PaymentRefundedEvent, PaymentVoidedEvent
from saga_model.rules import Subscribers
from saga_model.state import Message

OUTCOMES: Final = frozenset({InventoryReleasedEvent, PaymentVoidedEvent, PaymentRefundedEvent})
"""Events whose id follows from order and outcome: told again, each is the same event to an inbox."""


class Letter(NamedTuple):
    """A message to one of its subscribers."""

    bit: int
    to: str
    message: Message


class Post:
    """Knows every letter by its bit."""

    def __init__(self, subscribers: Subscribers) -> None:
        self.subscribers = subscribers
        self.letters: list[Letter] = []
        self._bits: dict[Message, int] = {}

    def bits(self, message: Message) -> int:
        """The letters of a message, one to each subscriber."""
        found = self._bits.get(message)
        if found is None:
            first = len(self.letters)
            subscribers = enumerate(self.subscribers[message.event], first)
            self.letters += [Letter(1 << number, to, message) for number, to in subscribers]
            found = self._bits[message] = sum(letter.bit for letter in self.letters[first:])
        return found

    def among(self, bits: int) -> Iterator[Letter]:
        """The letters of a set, in the order in which they were first sent anywhere."""
        while bits:
            lowest = bits & -bits
            yield self.letters[lowest.bit_length() - 1]
            bits ^= lowest

    def sent(self, messages: Iterable[Message], known: int, *, anew: bool = True) -> int:
        """The letters that must arrive because these messages were published.

        What an inbox knows under the same id it would not look at again: such a letter is not owed.
        """
        owed = 0
        for message in messages:
            bits = self.bits(message)
            owed |= bits if anew and message.event not in OUTCOMES else bits & ~known
        return owed
