"""Every refusal that the code words: its stable code, its HTTP status and its sentence, read from the code itself.

A refusal is made by calling one of the kinds of ``errors.py`` or ``Refusal``, or a small function of the same file that
passes its own ``code`` on. Only the calls are read; nothing is run.
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from cli.state import CHECKOUT
from services.chassis.problems import STATUS_OF_CODE, STATUS_OF_KIND

STATUS_OF_NAME: Final = {kind.__name__: status for kind, status in STATUS_OF_KIND.items()}


@dataclass(frozen=True)
class Refused:
    """What a client is told: ``sentence`` has dots where the code fills something in."""

    code: str
    status: int
    sentence: str


@dataclass(frozen=True)
class Maker:
    """How to read a call that makes a refusal: where its code and sentence stand, and which status it has."""

    code_at: int
    status: int | None = None

    def read(self, arguments: Sequence[ast.expr]) -> Refused | None:
        """What such a call makes; None where the code is not written in the call."""
        if len(arguments) < self.code_at + 2:
            return None
        code, sentence = text_of(arguments[self.code_at]), text_of(arguments[self.code_at + 1])
        status = STATUS_OF_CODE.get(code, self.status) or (number_of(arguments[0]) if self.code_at else None)
        return Refused(code, status, sentence or code.replace("_", " ").capitalize() + ".") if code and status else None


KINDS: Final[Mapping[str, Maker]] = {
    "Refusal": Maker(1),
    **{name: Maker(0, status) for name, status in STATUS_OF_NAME.items()},
}


@cache
def refusals() -> Mapping[str, Refused]:
    """Each refusal by its code; raises ValueError when one code has two statuses."""
    found: dict[str, Refused] = {}
    for file in sorted([CHECKOUT / "gateway.py", *(CHECKOUT / "services").rglob("*.py")]):
        for refused in read_file(file):
            if found.setdefault(refused.code, refused).status != refused.status:
                raise ValueError(f"{refused.code} has two statuses")
    return found


def read_file(file: Path) -> Iterator[Refused]:
    """What the file's calls make."""
    tree = ast.parse(file.read_text())
    makers = {**KINDS, **makers_in(tree)}
    for call in calls_in(tree):
        maker = makers.get(name_of(call))
        refused = maker and maker.read(call.args)
        if refused:
            yield refused


def makers_in(tree: ast.AST) -> Mapping[str, Maker]:
    """The functions that make a refusal of a code they are given."""
    found = {}
    for function in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)):
        names = [argument.arg for argument in function.args.args]
        for call in calls_in(function):
            kind = KINDS.get(name_of(call))
            if kind and len(call.args) > kind.code_at:
                code = call.args[kind.code_at]
                if isinstance(code, ast.Name) and code.id in names:
                    found[function.name] = Maker(names.index(code.id), kind.status or number_of(call.args[0]))
    return found


def calls_in(tree: ast.AST) -> Iterator[ast.Call]:
    """Every call in it."""
    return (each for each in ast.walk(tree) if isinstance(each, ast.Call))


def name_of(call: ast.Call) -> str:
    """The plain name of what is called; empty for anything else."""
    return call.func.id if isinstance(call.func, ast.Name) else ""


def number_of(expression: ast.expr) -> int | None:
    """The number that is written there."""
    return expression.value if isinstance(expression, ast.Constant) and isinstance(expression.value, int) else None


def text_of(expression: ast.expr) -> str:
    """The text that is written there; empty when it is none."""
    match expression:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) or "..." for part in parts)
    return ""
