"""The product's own check of its own code, as ``model/`` checks the design: the real handlers under anything at all."""

import secrets
import time

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.house import House
from tests.property.machine import Saga

STEPS = 400
STEPS_AN_EXAMPLE = 50
FEW_EXAMPLES, MANY_EXAMPLES = 8, 40
"""In a round of the short run, and of a long one."""


class TestSaga:
    """Whatever happens in whatever order: the invariants hold at every instant, and everything ends well."""

    def test_keeps_its_invariants(
        self, house: House, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Some hundred steps, or as many as ``--steps`` says; every round has its seed, counted up from the first."""
        wanted = pytestconfig.getoption("--steps", None)
        given = pytestconfig.getoption("--seed", None)
        seed = secrets.randbelow(10**9) if given is None else given
        phases = [Phase.generate] if given is None else [Phase.generate, Phase.shrink]  # shrinking takes minutes
        began = time.monotonic()
        Saga.house, Saga.steps, Saga.endings = house, 0, 0

        while Saga.steps < (wanted or STEPS):
            hypothesis.seed(seed)(Saga)
            again = f"./oms test tests/property --seed {seed}" + (f" --steps {wanted}" if wanted else "")
            print(f"To meet a failure again, with as few steps as show it: {again}")  # noqa: T201 - shown when it fails
            run_state_machine_as_test(Saga, settings=_settings(MANY_EXAMPLES if wanted else FEW_EXAMPLES, phases))
            seed += 1
            if wanted:
                with capsys.disabled():
                    seconds = time.monotonic() - began
                    print(f"{Saga.steps} steps, {Saga.endings} endings, {seconds:.0f} s; next seed {seed}", flush=True)  # noqa: T201

        assert Saga.endings > 0
        if wanted:
            with capsys.disabled():
                print(", ".join(f"{what} {times}" for what, times in sorted(house.seen.items())))  # noqa: T201


def _settings(examples: int, phases: list[Phase]) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS_AN_EXAMPLE,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
