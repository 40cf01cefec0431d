"""One run from the first server to the verdict."""

import argparse
import os
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.chaos import memory, report, verdict
from tests.chaos.diary import Diary
from tests.chaos.door import Door, Tally
from tests.chaos.ground import Ground, made
from tests.chaos.hurt import Hand
from tests.chaos.load import Load
from tests.chaos.plan import KINDS, Fault, Kind, draw

ANSWERED_SECONDS: Final = 120
"""In calm, while anybody still waits for an answer somebody gets one within this time."""

AT_ONCE: Final = 32
"""No more things are broken at a time."""


def wishes(given: list[str]) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(
        prog="oms chaos",
        description="Let everything break under load, in a cluster of its own, and say whether anything was lost.",
        epilog=f"KIND is one of: {', '.join(kind.name for kind in KINDS)}.",
    )
    parser.add_argument("--seed", type=int, default=1, help="decides what breaks when, and who buys what (1)")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long things break (1)")
    parser.add_argument("--rate", type=float, default=4.0, help="orders a second (4)")
    parser.add_argument("--instances", type=int, default=2, help="how many of every service (2)")
    which = parser.add_mutually_exclusive_group()
    names = [kind.name for kind in KINDS]
    which.add_argument("--only", action="append", choices=names, metavar="KIND", help="break things only in these ways")
    which.add_argument("--soak", action="store_true", help="break nothing: only the load, and whether memory grows")
    return parser.parse_args(given)


def main(given: list[str]) -> int:
    """0 when everything held; otherwise 1, and the logs are kept."""
    args = wishes(given)
    folder = Path(tempfile.mkdtemp(prefix="oms-chaos-"))
    diary = Diary(folder / "diary")
    diary.tell(f"seed {args.seed}, {args.minutes} minutes, {args.rate} orders a second, {args.instances} of everything")
    with ThreadPoolExecutor(AT_ONCE) as pool, made(folder, args.instances) as ground:
        try:
            go_through(ground, diary, pool, args)
        finally:
            if diary.wrongs:
                ground.keep()
    if diary.wrongs:
        diary.tell(f"verdict: {len(diary.wrongs)} things are wrong. The logs and books: {folder}")
        return 1
    diary.tell("verdict: nothing lost, nothing twice, nothing oversold; every promise was kept")
    shutil.rmtree(folder)
    return 0


def go_through(ground: Ground, diary: Diary, pool: ThreadPoolExecutor, args: argparse.Namespace) -> None:
    """The load, the faults, the calm and the verdict."""
    seconds = args.minutes * 60
    tally = Tally()
    load = Load(ground, Door(ground.doors, tally, lambda: ground.is_served), diary, args.seed, args.rate)
    takes = memory.Memory(ground, diary)
    plan = draw(args.seed, seconds, ground.targets, allowed(args))
    if not plan and not args.soak:
        diary.wrong("nothing was broken: no fault of this kind is over within this time")
    diary.begin()
    load.begin()
    load.lives.begin(takes.watch(seconds))
    Hand(ground, diary, pool).carry_out(plan, seconds)
    diary.note("calm: nothing breaks any more")
    verdict.calm(ground, diary)
    load.close()
    see_off(load, diary)
    diary.note("coming to rest")
    verdict.rest(ground, diary)
    verdict.judge(ground, diary, load.book)
    for growth in memory.grown(takes.samples):
        diary.wrong(growth)
    diary.tell()
    diary.tell(f"load of the machine: {', '.join(f'{each:.1f}' for each in os.getloadavg())} on {os.cpu_count()} cores")
    diary.tell(f"{len(plan)} faults: " + ", ".join(f"{times} {kind}" for kind, times in kinds(plan)))
    for lines in (
        report.on_answers(tally),
        report.on_orders(load.book, verdict.outcomes(ground)),
        memory.lines(takes.samples),
    ):
        for line in lines:
            diary.tell(line)
    for wrong in diary.wrongs:
        diary.tell(f"WRONG {wrong}")


def allowed(args: argparse.Namespace) -> list[Kind]:
    """The kinds of faults that were asked for."""
    if args.soak:
        return []
    return [kind for kind in KINDS if not args.only or kind.name in args.only]


def see_off(load: Load, diary: Diary) -> None:
    """Wait until everybody was answered, for as long as that goes on."""
    before, left = load.lives.under_way + 1, load.lives.under_way
    while left and left < before:
        before, left = left, load.lives.wait(ANSWERED_SECONDS)
    load.lives.end()
    if left:
        diary.wrong(f"{left} were not answered, and nobody was for {ANSWERED_SECONDS} s in which nothing broke")


def kinds(plan: list[Fault]) -> list[tuple[str, int]]:
    """How often each kind of fault is in the plan."""
    return Counter(fault.kind for fault in plan).most_common()
