"""The image holds what services and jobs need, in exact versions, and nothing that happens to lie about."""

import re
from typing import Final

from cli.services import SERVICES
from tests.deploy.facts import CHECKOUT

DOCKERFILE: Final = (CHECKOUT / "Dockerfile").read_text()
IGNORED: Final = (CHECKOUT / ".dockerignore").read_text().splitlines()


def pins(file: str) -> dict[str, str]:
    """The exact versions that a requirements file names."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", (CHECKOUT / file).read_text(), re.MULTILINE))


class TestImage:
    """What goes in, and who runs it."""

    def test_lets_in_only_what_is_named(self) -> None:
        """The build sees nothing else: everything is ignored first."""
        let_in = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}

        assert next(line for line in IGNORED if not line.startswith("#")) == "*"
        assert all((CHECKOUT / name).exists() for name in let_in)

    def test_holds_every_service(self) -> None:
        """The module of each lies in something that is copied."""
        copied = {name for line in re.findall(r"^COPY (.+)", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]}

        assert {"config.yaml", "events.py", "cli", "contract"} <= copied
        for service in SERVICES.values():
            top = service.module.partition(".")[0]
            assert {top, f"{top}.py"} & copied

    def test_is_not_run_by_root(self) -> None:
        """By a number, so that Kubernetes can tell."""
        assert re.findall(r"^USER (\S+)", DOCKERFILE, re.MULTILINE) == ["10001:10001"]

    def test_holds_no_secret(self) -> None:
        """No build argument, and no variable that sounds like one."""
        assert "ARG " not in DOCKERFILE
        assert not re.search(r"(PASSWORD|SECRET|TOKEN)", DOCKERFILE)

    def test_has_the_versions_that_were_tested(self) -> None:
        """What the jobs need in addition is pinned as for development."""
        development = pins("requirements-dev.txt")

        assert pins("requirements-jobs.txt").items() <= development.items()
        assert "-r requirements.txt" in (CHECKOUT / "requirements-jobs.txt").read_text().splitlines()
