"""What supervisord is told, and what each service is told."""

import shlex
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
from supervisor.datatypes import dict_of_key_value_pairs

from cli.environments import Surroundings, broker_url, read_environment, write_environment
from cli.servers.endpoints import Endpoints
from cli.servers.programs import Program
from cli.state import State
from cli.supervision import configuration
from cli.trouble import Trouble

AROUND = Surroundings(
    Endpoints(amqp_url="amqp://admin:secret@127.0.0.1:5672/oms", redis_url="redis://:it's@127.0.0.1:6379/0"),
    {"orders": "postgresql+psycopg2://orders:p@127.0.0.1:5432/orderservice_db"},
)


@pytest.fixture
def state(tmp_path: Path) -> State:
    """A state folder at a path with a space and a percent sign."""
    state = State(tmp_path / "50% of it")
    state.make()
    return state


class TestConfiguration:
    """A program's part of supervisord's configuration."""

    def test_survives_awkward_values(self, state: State) -> None:
        """Spaces, quotes, commas and percent signs come through."""
        environment = {"A": "{127,0,0,1}", "B": "it's", "C": "a@b=c d", "D": "100%"}
        program = Program(name="x", arguments=["/bin/a b", "it's", "50%"], folder=state.folder, environment=environment)

        parser = RawConfigParser(inline_comment_prefixes=(";", "#"))
        parser.read_string(configuration(program, state.logs))

        section = parser["program:x"]
        assert shlex.split(section["command"].replace("%%", "%")) == program.arguments
        found = {
            name: value.replace("%%", "%") for name, value in dict_of_key_value_pairs(section["environment"]).items()
        }
        assert found == environment
        assert section["directory"] == str(state.folder).replace("%", "%%")

    def test_refuses_what_would_be_read_as_a_comment(self, tmp_path: Path) -> None:
        """There is no way to write it."""
        with pytest.raises(Trouble, match="Move the checkout"):
            configuration(Program(name="x", arguments=["a"], folder=tmp_path / "a ;b"), tmp_path)


class TestEnvironment:
    """The file of one service."""

    def test_is_sourced_by_a_shell(self, state: State) -> None:
        """Whatever the values hold, the shell sees the same."""
        write_environment(state, "orders", AROUND, running=False)

        script = f'set -a; . "{state.environments}/orders"; printf "%s\\n" "$REDIS_URL" "$OMS_STATE" "$AMQP_URI"'
        shell = ["/bin/sh", "-c", script]
        seen = subprocess.check_output(shell, text=True).split("\n")

        assert seen[0] == "redis://:it's@127.0.0.1:6379/0"
        assert seen[1] == str(state.folder)
        assert read_environment(state, "orders")["AMQP_URI"] == seen[2]

    def test_holds_only_what_the_service_may_know(self, state: State) -> None:
        """A database for those who own one, the first administrator for users only."""
        for instance in ("orders", "users", "gateway", "operator"):
            write_environment(state, instance, AROUND, running=False)

        assert "DATABASE_URL" in read_environment(state, "orders")
        assert "DATABASE_URL" not in read_environment(state, "gateway")
        assert "ADMIN_PASSWORD" in read_environment(state, "users")
        assert "ADMIN_PASSWORD" not in read_environment(state, "orders")
        assert "HTTP_PORT" not in read_environment(state, "operator")

    def test_says_whether_it_changed(self, state: State) -> None:
        """Writing the same again is no change."""
        assert write_environment(state, "orders", AROUND, running=False)
        assert not write_environment(state, "orders", AROUND, running=True)

    def test_has_the_secret_that_is_being_replaced(self, state: State) -> None:
        """While a person keeps it in a file; coming and going of that is a change, so the service starts again."""
        write_environment(state, "orders", AROUND, running=False)
        previous = state.secrets / "jwt-previous"
        previous.write_text("the one before\n")

        assert write_environment(state, "orders", AROUND, running=True)
        assert read_environment(state, "orders")["JWT_SECRET_PREVIOUS"] == "the one before"

        previous.unlink()

        assert write_environment(state, "orders", AROUND, running=True)
        assert "JWT_SECRET_PREVIOUS" not in read_environment(state, "orders")

    def test_gives_a_further_instance_its_own_port(self, state: State) -> None:
        """And the broker user and database of its service."""
        for instance in ("orders", "orders-2"):
            write_environment(state, instance, AROUND, running=False)
        first, second = (read_environment(state, instance) for instance in ("orders", "orders-2"))

        assert first["HTTP_PORT"] != second["HTTP_PORT"]
        assert first["AMQP_URI"] == second["AMQP_URI"]
        assert first["DATABASE_URL"] == second["DATABASE_URL"]

    def test_is_missed_with_advice(self, state: State) -> None:
        """Without a cluster there is nothing to read."""
        with pytest.raises(Trouble, match=r"\./oms up"):
            read_environment(state, "orders")

    @pytest.mark.parametrize("left", [b"", b"\0\0\0", b"\xff\xfe", b"AMQP_URI='amqp:", b"AMQP_URI=amqp://a\n"])
    def test_is_not_believed_when_half_written(self, state: State, left: bytes) -> None:
        """A power cut left it so; it is written anew."""
        write_environment(state, "orders", AROUND, running=False)
        file = state.environments / "orders"
        whole = file.read_text()
        file.write_bytes(left)

        with pytest.raises(Trouble, match=r"half written\. Run \./oms up"):
            read_environment(state, "orders")
        assert write_environment(state, "orders", AROUND, running=True)
        assert file.read_text() == whole

    def test_keeps_the_brokers_scheme(self) -> None:
        """A given broker may want TLS."""
        assert broker_url("amqps://a:b@h:5671/v", "orders", "p/w") == "amqps://orders:p%2Fw@h:5671/v"
