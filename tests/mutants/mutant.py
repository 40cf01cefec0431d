"""A mutant: one mistake as exact pieces of text, so that it fails loudly where the code has moved on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cli.trouble import Trouble


@dataclass(frozen=True)
class Edit:
    """In this file, ``old``, which stands there exactly once, becomes ``new``."""

    file: str
    old: str
    new: str

    @classmethod
    def drop(cls, file: str, old: str) -> Self:
        """The same without this piece."""
        return cls(file, old, "")

    def applied(self, source: str) -> str:
        """The source with the mistake in it. Raises Trouble unless it has exactly one place for it."""
        found = source.count(self.old)
        if found != 1:
            raise Trouble(f"{self.file} has {found} places, not one, that read:\n{self.old}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Mutant:
    """A mistake, what it would cost, and the test that must fail because of it."""

    name: str
    mistake: str
    cost: str
    killer: str
    edits: tuple[Edit, ...]
    is_refused: bool = False
    """A constraint of the database stops the mistake, so that its IntegrityError is what the killer may fail with."""

    def sources(self, checkout: Path) -> Mapping[str, str]:
        """Every file of the checkout that the mistake changes, with the mistake in it."""
        sources: dict[str, str] = {}
        for edit in self.edits:
            source = sources.get(edit.file) or (checkout / edit.file).read_text()
            sources[edit.file] = edit.applied(source)
        return sources

    def write(self, checkout: Path) -> None:
        """Make the mistake there."""
        for file, source in self.sources(checkout).items():
            (checkout / file).write_text(source)
