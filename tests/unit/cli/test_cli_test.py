"""How ``./oms test`` runs what it is asked for."""

import pytest

from cli.test import is_for_several


class TestSeveral:
    """Whether several processes share the work."""

    @pytest.mark.parametrize("arguments", [[], ["-q"], ["-p", "randomly"], ["--cov"], ["-k", "cancel"]], ids=" ".join)
    def test_take_the_whole_suite(self, arguments: list[str]) -> None:
        """Whatever is said of how to run it."""
        assert is_for_several(arguments)

    @pytest.mark.parametrize(
        "arguments", [["tests/unit"], ["-q", "tests/unit/cli/test_cli_test.py::TestSeveral"]], ids=" ".join
    )
    def test_take_no_choice_of_tests(self, arguments: list[str]) -> None:
        """A second set of servers costs more than it brings."""
        assert not is_for_several(arguments)

    @pytest.mark.parametrize("arguments", [["-n", "0"], ["-n3"], ["--numprocesses=2"]], ids=" ".join)
    def test_are_as_many_as_somebody_says(self, arguments: list[str]) -> None:
        """It is not said twice."""
        assert not is_for_several(arguments)
