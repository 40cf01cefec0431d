"""The README's commands, really run: ``./oms up`` in a state folder of its own, then whatever else it shows.

Every ``console`` block is run line by line in the order of the page, the variables of one command known to the next.
What a block shows must be in the output: ``...`` stands for anything, ids, times and (outside of answers over HTTP)
numbers may differ.
"""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import pytest

from cli.commands import commands
from cli.environments import read_environment
from cli.state import CHECKOUT, State
from services.inventory.seed import product_id

README: Final = (CHECKOUT / "README.md").read_text()
WRITTEN_URL: Final = "http://127.0.0.1:5011"
WRITTEN_FOLDER: Final = ".oms/"
COMMAND_SECONDS: Final = 150
ANSWER_SECONDS: Final = 30
"""How long an order's saga may take, and a service to start or to stop."""

UUIDS: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NUMBERS: Final = re.compile(r"\d+")

CURL: Final = '''#!{python}
"""Stands in where there is no curl: as much of it as the README uses."""
import sys
import requests

method, url, headers, body = None, "", {{}}, None
arguments = iter(sys.argv[1:])
for each in arguments:
    if each == "-X":
        method = next(arguments)
    elif each == "-H":
        name, _, value = next(arguments).partition(":")
        headers[name] = value.strip()
    elif each == "-d":
        body = next(arguments)
    elif not each.startswith("-"):
        url = each
session = requests.Session()
session.trust_env = False
answer = session.request(method or ("POST" if body else "GET"), url, headers=headers, data=body, timeout=15)
sys.stdout.write(answer.text)
'''


@dataclass
class Command:
    """One command of a ``console`` block, with what the page shows of its output."""

    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def only_looks(self) -> bool:
        """Whether it may be run again until it shows what it should: an order takes its time."""
        return self.text.startswith("grep ") or (self.text.startswith("curl ") and " -d " not in self.text)

    @property
    def stays(self) -> bool:
        """Whether it runs until somebody ends it."""
        return "nameko run" in self.text


def written(text: str) -> Iterator[Command]:
    """The commands of the page's ``console`` blocks."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        lines = iter(block.splitlines())
        command = None
        for line in lines:
            if line.startswith("$ "):
                if command:
                    yield command
                command = Command(line[2:])
                while not is_complete(command.text):
                    command.text += "\n" + next(lines)
            elif command:
                command.shown.append(line)
        if command:
            yield command


def is_complete(text: str) -> bool:
    """Whether the shell would not wait for a further line."""
    check = subprocess.run(["/bin/bash", "-n", "-c", text], capture_output=True, check=False)
    return not (check.returncode or check.stderr or text.endswith("\\"))


def comparable(line: str, *, numbers: bool) -> str:
    """The line without what differs from run to run."""
    line = UUIDS.sub("<id>", " ".join(line.split()))
    return NUMBERS.sub("#", line) if numbers else line


def missing(command: Command, output: str) -> list[str]:
    """The shown lines that the output does not have."""
    numbers = "curl " not in command.text
    found = "\n".join(comparable(line, numbers=numbers) for line in output.splitlines())
    wanted = [line for line in command.shown if line.strip() not in ("", "...")]
    return [line for line in wanted if not re.search(pattern(comparable(line, numbers=numbers)), found, re.MULTILINE)]


def pattern(line: str) -> str:
    """A regular expression for the line, in which ``...`` stands for anything."""
    return f"^{'.*'.join(map(re.escape, line.split('...')))}$"


class Shell:
    """Runs commands as a person would type them, with the variables of earlier ones, on a cluster of its own."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.variables = state.folder / "variables"
        self.variables.touch()
        programs = state.folder / "programs"
        programs.mkdir()
        (programs / "python3").symlink_to(Path(sys.executable).resolve())  # else .venv may be made anew for another
        if not shutil.which("curl"):
            (programs / "curl").write_text(CURL.format(python=sys.executable))
            (programs / "curl").chmod(0o755)
        given = {
            name: value for name, value in os.environ.items() if not name.startswith("OMS_") or name == "OMS_CACHE"
        }
        path = f"{programs}:{os.environ.get('PATH', os.defpath)}"
        self.environment = {**given, "OMS_STATE": str(state.folder), "PATH": path, "no_proxy": "*"}

    def script(self, text: str) -> list[str]:
        """The command for a shell, its variables loaded before and kept after it."""
        text = text.replace(WRITTEN_FOLDER, f"{self.state.folder}/")
        if WRITTEN_URL in text:
            text = text.replace(WRITTEN_URL, f"http://127.0.0.1:{read_environment(self.state, 'gateway')['HTTP_PORT']}")
        keep = f"code=$?; set +a; export -p > {self.variables}; exit $code"
        return ["/bin/bash", "-c", f". {self.variables}; set -a\n{text}\n{keep}"]

    def run(self, text: str) -> str:
        """What the command prints; fails unless it ends well."""
        done = subprocess.run(
            self.script(text),
            cwd=CHECKOUT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"$ {text}\n{done.stdout}"
        return done.stdout

    def try_out(self, command: Command) -> None:
        """Run the command; fails unless the output has what the page shows."""
        if command.stays:
            self.watch(command)
            return
        end = monotonic() + (ANSWER_SECONDS if command.only_looks else 0)
        while True:
            output = self.run(command.text) if not command.only_looks else self.look(command.text)
            lacking = missing(command, output)
            if not lacking:
                return
            assert monotonic() < end, f"$ {command.text}\n{output}\nis without: {lacking}"
            sleep(0.3)

    def look(self, text: str) -> str:
        """What the command prints, or its complaint: there may be nothing to see yet."""
        try:
            return self.run(text)
        except AssertionError as nothing:
            return str(nothing)

    def watch(self, command: Command) -> None:
        """Start the command, wait until it has printed what the page shows, and ask it to stop."""
        log = self.state.folder / f"watched-{secrets.token_hex(4)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.script(command.text),
                cwd=CHECKOUT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_for(lambda: not missing(command, log.read_text()), log)
            os.killpg(process.pid, signal.SIGTERM)
            wait_for(lambda: '"event": "service_stopped"' in log.read_text(), log)
        finally:
            end_group(process)


def wait_for(condition: Callable[[], bool], log: Path) -> None:
    """Wait until it is so; fails with the log when it does not come to pass."""
    end = monotonic() + ANSWER_SECONDS
    while not condition():
        assert monotonic() < end, log.read_text()
        sleep(0.1)


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Nothing of the process' group is left afterwards."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A shell whose cluster is stopped and removed in the end, with the command that the README names for it."""
    folder = Path(tempfile.mkdtemp(prefix="oms-readme-"))
    folder.chmod(0o711)  # PostgreSQL's own account passes through it
    shell = Shell(State(folder))
    try:
        yield shell
    finally:
        shell.run("./oms down --delete-everything")
        shutil.rmtree(folder, ignore_errors=True)


class TestReadme:
    """The page tells what is so."""

    def test_every_command_does_what_it_shows(self, shell: Shell) -> None:
        """In the order of the page, on a new cluster."""
        page = list(written(README))

        assert page[0].text == "./oms up"
        for command in page:
            shell.try_out(command)

    def test_names_only_commands_that_there_are(self) -> None:
        """And those it says are still to come are not there yet."""
        now, _, later = README.partition("### Not yet")

        assert set(re.findall(r"\./oms ([a-z][a-z-]*)", now)) <= set(commands())
        assert set(re.findall(r"\./oms ([a-z][a-z-]*)", later)).isdisjoint(commands())

    def test_orders_a_product_of_the_seeded_catalogue(self) -> None:
        """The id on the page is the desk lamp's in every cluster."""
        assert str(product_id("Desk lamp")) in README
