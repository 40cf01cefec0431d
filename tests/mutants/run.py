"""One run from the servers to the table."""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cli.progress import Progress
from cli.servers.private import Servers
from cli.state import current
from cli.trouble import Trouble
from tests.mutants.catalogue import MUTANTS
from tests.mutants.copies import LIMIT_SECONDS, Verdict, as_environment, copied, run_tests, try_mutant
from tests.mutants.mutant import Mutant

TITLE = "# The mistakes that were made, and the tests that found them"


def wishes(given: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="oms mutants",
        description="Make classic mistakes in copies of the code, one by one, and show the test that finds each.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    parser.add_argument("--report", type=Path, default=current().folder / "mutants", help="where to write the report")
    return parser.parse_args(given)


def main(given: list[str]) -> int | str:
    """0 when every mutant died, 1 when one lives; a sentence when nothing could be found out."""
    args = wishes(given)
    try:
        mutants = chosen(args.names)
        if args.list:
            print("\n".join(f"{each.name}\n    {each.mistake} {each.cost}" for each in mutants))  # noqa: T201 - a command
            return 0
        with servers() as urls:
            return try_all(mutants, urls, args.report)
    except Trouble as trouble:
        return f"oms: {trouble}"


def chosen(names: Sequence[str]) -> list[Mutant]:
    """The mutants of these names, or all. Raises Trouble for a name that none has."""
    unknown = set(names) - {each.name for each in MUTANTS}
    if unknown:
        raise Trouble(f"There is no mutant {', '.join(sorted(unknown))}. ./oms mutants --list says which there are.")
    return [each for each in MUTANTS if not names or each.name in names]


@contextmanager
def servers() -> Iterator[Mapping[str, str]]:
    """One PostgreSQL and one RabbitMQ for all runs of tests; what tells them where."""
    folder = Path(tempfile.mkdtemp(prefix="oms-mutants-"))
    folder.chmod(0o711)  # PostgreSQL's own account passes through it
    private = Servers(folder, durable=False)
    try:
        yield as_environment(private.start(valkey=False))
    finally:
        private.remove()


def try_all(mutants: Sequence[Mutant], urls: Mapping[str, str], folder: Path) -> int:
    """0 when every mutant died of its killer, which the code as it is passes."""
    progress = Progress()
    require_green(list(dict.fromkeys(each.killer for each in mutants)), urls, progress)
    verdicts = {}
    for number, mutant in enumerate(mutants, start=1):
        verdict = verdicts[mutant] = try_mutant(mutant, urls)
        fate = "died" if verdict.failed else "LIVES"
        progress.tell(
            f"{number}/{len(mutants)}  {mutant.name}  {fate}\n          {mutant.killer}\n          {verdict.word}"
        )
    lines = list(table(verdicts))
    lines.append(f"\n{summary(verdicts)} {progress.seconds:.0f} s in all, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mutants.md").write_text("\n".join([TITLE, "", *lines]) + "\n")
    print("\n" + "\n".join(lines) + f"\nThe report is in {folder / 'mutants.md'}")  # noqa: T201 - a command
    return 0 if all(verdict.failed for verdict in verdicts.values()) else 1


def require_green(killers: Sequence[str], urls: Mapping[str, str], progress: Progress) -> None:
    """Raise Trouble unless the code as it is passes them all: else their failing would show nothing."""
    with copied() as checkout:
        verdict = run_tests(checkout, killers, urls, LIMIT_SECONDS * len(killers))
    if not verdict.passed:
        raise Trouble(f"The code without any mistake does not pass the tests that are to find them: {verdict.word}")
    progress.tell(f"{len(killers)} tests are green on the code as it is")


def table(verdicts: Mapping[Mutant, Verdict]) -> Iterator[str]:
    """One line per mutant."""
    yield "| Mutant | What it gets wrong | Killed by | Its complaint | Seconds |"
    yield "|---|---|---|---|---:|"
    for mutant, verdict in verdicts.items():
        killer = mutant.killer if verdict.failed else f"nothing; it should be {mutant.killer}"
        yield f"| {mutant.name} | {mutant.mistake} | {killer} | {in_cell(verdict.word)} | {verdict.seconds:.1f} |"


def in_cell(text: str) -> str:
    """The text's first line as a cell can hold it."""
    return text.partition("\n")[0].replace("|", "\\|")[:160]


def summary(verdicts: Mapping[Mutant, Verdict]) -> str:
    """How many died, and who did not."""
    alive = [mutant.name for mutant, verdict in verdicts.items() if not verdict.failed]
    died = f"{len(verdicts) - len(alive)} of {len(verdicts)} died."
    return f"{died} Still alive: {', '.join(alive)}." if alive else died
