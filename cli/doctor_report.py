"""What the doctor found: each check by name, how often it is broken, and the rows that show it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

MOST_KEPT: Final = 1000
"""So many findings of one check are kept; all are counted."""

MOST_PRINTED: Final = 20


@dataclass(frozen=True)
class Check:
    """Something that must hold: a stable name and a sentence."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, in words, with the row that shows it."""

    check: str
    text: str
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order_id(self) -> str | None:
        """The order it is about, if it is about one."""
        found = self.row.get("order_id")
        return str(found) if found else None


class Report:
    """Everything one examination has found."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)
        self.checks: dict[str, Check] = {}
        self.counts: dict[str, int] = {}
        self.kept: dict[str, list[Finding]] = {}
        self.skipped: list[str] = []
        self.orders = 0

    def begin(self, *checks: Check) -> None:
        """These are checked from now on."""
        for check in checks:
            self.checks[check.name] = check
            self.counts.setdefault(check.name, 0)

    def add(self, check: Check, text: str, **row: Any) -> None:
        """Something breaks that check."""
        self.begin(check)
        self.counts[check.name] += 1
        kept = self.kept.setdefault(check.name, [])
        if len(kept) < MOST_KEPT:
            kept.append(Finding(check.name, text, row))

    def skip(self, what: str) -> None:
        """Note what could not be looked at."""
        self.skipped.append(what)

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not any(self.counts.values())

    def findings(self) -> Iterator[Finding]:
        """All that were kept."""
        for kept in self.kept.values():
            yield from kept

    def as_json(self) -> str:
        """Everything for a program."""
        checks = [
            {
                "name": check.name,
                "sentence": check.sentence,
                "broken": self.counts[check.name],
                "findings": [
                    {"orderId": finding.order_id, "text": finding.text, "row": finding.row}
                    for finding in self.kept.get(check.name, [])
                ],
            }
            for check in self.checks.values()
        ]
        found = {"at": self.at, "healthy": self.healthy, "orders": self.orders}
        return json.dumps(found | {"checks": checks, "notLookedAt": self.skipped}, indent=2, default=plain)

    def as_text(self) -> str:
        """What is wrong, for a person."""
        lines = []
        for check in self.checks.values():
            count = self.counts[check.name]
            if not count:
                continue
            lines.append(f"WRONG  {check.name}  ({count})\n  It must be so: {check.sentence}")
            lines += [f"    {finding.text}" for finding in self.kept[check.name][:MOST_PRINTED]]
            if count > MOST_PRINTED:
                lines.append(f"    ... and {count - MOST_PRINTED} more; --json lists them.")
        lines += [f"Not looked at: {what}" for what in self.skipped]
        broken = sum(1 for count in self.counts.values() if count)
        verdict = (
            f"{broken} of {len(self.checks)} checks are broken" if broken else f"All {len(self.checks)} checks hold"
        )
        return "\n".join([*lines, f"{verdict} over {self.orders} orders."])


def plain(value: object) -> str:
    """Times, ids and numbers as JSON has them: text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
