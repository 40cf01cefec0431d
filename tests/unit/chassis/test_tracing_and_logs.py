import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.state import CHECKOUT
from services.chassis import logs
from services.chassis.tracing import Trace, sane_correlation_id, sane_traceparent

TRACEPARENT = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


class TestTrace:
    """Where a piece of work comes from."""

    @pytest.mark.parametrize("value", ["a", "A-z_0.9", "x" * 64])
    def test_a_sane_correlation_id_is_kept(self, value: str) -> None:
        """1 to 64 harmless characters."""
        assert Trace.of({"correlation_id": value}).correlation_id == value

    @pytest.mark.parametrize("value", [None, "", 5, "x" * 65, "a b", "a\n", "ä", "a;b", ["a"]])
    def test_any_other_is_replaced(self, value: object) -> None:
        """By a new one."""
        assert sane_correlation_id(value) is None
        assert UUID(Trace.of({"correlation_id": value}).correlation_id)

    def test_a_trace_context_is_kept(self) -> None:
        """Version 00, with ids that are not zero."""
        assert Trace.of({"traceparent": TRACEPARENT}).traceparent == TRACEPARENT

    @pytest.mark.parametrize(
        "value",
        [
            None,
            5,
            TRACEPARENT + "\n",
            TRACEPARENT.upper().replace("1", "A"),
            TRACEPARENT.replace("1" * 32, "0" * 32),
            TRACEPARENT.replace("2" * 16, "0" * 16),
            "01" + TRACEPARENT[2:],
            TRACEPARENT + "-x",
        ],
    )
    def test_any_other_is_dropped(self, value: object) -> None:
        """None stands for it."""
        assert sane_traceparent(value) is None

    @given(st.text())
    def test_no_text_does_harm(self, text: str) -> None:
        """Whatever it is."""
        trace = Trace.of({"correlation_id": text, "traceparent": text})

        assert sane_correlation_id(trace.correlation_id)


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    """What a logger named after the test writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.formatter())
    logger = logging.getLogger(request.node.name)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield stream
    logger.removeHandler(handler)


class TestLogs:
    """One JSON object a line."""

    def test_a_line_says_what_when_where(self, lines: io.StringIO, request: pytest.FixtureRequest) -> None:
        """With the values that were given."""
        logs.get_logger(request.node.name).info("it_happened", order_id="o")

        line = json.loads(lines.getvalue())
        assert (line["event"], line["order_id"], line["level"], line["logger"]) == (
            "it_happened",
            "o",
            "info",
            request.node.name,
        )
        assert line["timestamp"].endswith("Z")

    def test_what_is_bound_stands_on_every_line_of_the_block(
        self, lines: io.StringIO, request: pytest.FixtureRequest
    ) -> None:
        """And on none after it; libraries' lines included."""
        with logs.bound(correlation_id="c"):
            logs.get_logger(request.node.name).info("ours")
            logging.getLogger(request.node.name).warning("theirs %s", 1)
        logs.get_logger(request.node.name).info("after")

        ours, theirs, after = map(json.loads, lines.getvalue().splitlines())
        assert (ours["correlation_id"], theirs["correlation_id"]) == ("c", "c")
        assert theirs["event"] == "theirs 1"
        assert "correlation_id" not in after

    def test_a_traceback_stays_on_its_line(self, lines: io.StringIO, request: pytest.FixtureRequest) -> None:
        """As one more value, from us and from libraries."""
        try:
            int("first\nsecond")
        except ValueError:
            logs.get_logger(request.node.name).exception("ours")
            logging.getLogger(request.node.name).exception("theirs")

        both = [json.loads(line) for line in lines.getvalue().splitlines()]
        assert [line["event"] for line in both] == ["ours", "theirs"]
        assert all("ValueError: invalid literal" in line["exception"] for line in both)

    def test_no_value_can_forge_a_line(self, lines: io.StringIO, request: pytest.FixtureRequest) -> None:
        """Line breaks are escaped."""
        logs.get_logger(request.node.name).info("x", note='a\n{"event": "forged"}')

        assert len(lines.getvalue().splitlines()) == 1


class TestCommands:
    """Programs that are no services and never ask for the formatter."""

    def test_leave_standard_output_to_the_answer(self) -> None:
        """``--json`` stays JSON, whatever is logged meanwhile."""
        program = "from services.chassis.logs import get_logger; get_logger('x').warning('redis_silent'); print('{}')"

        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)

        assert (ended.stdout, "redis_silent" in ended.stderr) == ("{}\n", True)
