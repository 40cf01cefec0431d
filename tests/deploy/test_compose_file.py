"""docker-compose.yml and the image: what they name exists, and containers get what they need and no more."""

import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cli.configuration import configuration
from cli.databases import DATABASES
from cli.doctor_places import find_operator_url, find_places
from cli.prepare import PARTS, make_secrets
from cli.servers.endpoints import Management, given_postgres
from cli.services import SERVICES
from cli.state import State
from tests.deploy.facts import CHECKOUT, cache_users, environment_variables

FILE: Final[dict[str, Any]] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
TEXT: Final = (CHECKOUT / "docker-compose.yml").read_text()
CONTAINERS: Final[dict[str, Any]] = FILE["services"]
JOBS: Final = {"secrets", "prepare"}
BY_HAND: Final = {"oms"}
SERVERS: Final = {"postgres", "rabbitmq", "redis"}


def folder_of(name: str) -> str | None:
    """Which folder of the volume of secrets the container sees; None for a job, which sees all."""
    for each in CONTAINERS[name]["volumes"]:
        if isinstance(each, dict) and each["source"] == "secrets":
            assert each["read_only"]
            subpath: str = each["volume"]["subpath"]
            return subpath
    return None


class TestContainers:
    """Which there are and how they are run."""

    def test_are_the_services_servers_and_jobs(self) -> None:
        """One per service, three servers, two jobs, and one that starts only when it is asked for."""
        assert CONTAINERS.keys() == SERVICES.keys() | SERVERS | JOBS | BY_HAND
        assert {name for name, each in CONTAINERS.items() if "profiles" in each} == BY_HAND

    @pytest.mark.parametrize("name", SERVICES)
    def test_run_a_service_with_its_port(self, name: str) -> None:
        """The same command as anywhere, at the port of config.yaml."""
        assert CONTAINERS[name]["command"] == ["nameko", "run", "--config", "config.yaml", SERVICES[name].module]
        assert CONTAINERS[name]["environment"]["HTTP_PORT"] == str(configuration()["HTTP_PORTS"][name])

    @pytest.mark.parametrize("name", CONTAINERS)
    def test_may_do_little(self, name: str) -> None:
        """No capability and no new privileges; ours write nowhere, and no server runs as root."""
        container = CONTAINERS[name]

        assert container["cap_drop"] == ["ALL"]
        assert container["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in container
        if name in SERVERS:
            assert container["user"] == name
        else:
            assert container["read_only"] is True
            assert container["image"] == CONTAINERS["secrets"]["image"]
            assert "user" not in container  # the image's own, which is not root

    def test_show_a_certificate_where_they_are_published(self) -> None:
        """HTTPS at the port of config.yaml, with files of the host; the folder is there, or nothing would start."""
        gateway = CONTAINERS["gateway"]
        (folder,) = [mount for mount in gateway["volumes"] if mount["type"] == "bind"]

        assert gateway["environment"]["HTTPS_PORT"] == str(configuration()["HTTPS_PORTS"]["gateway"])
        assert folder["read_only"] is True
        assert (CHECKOUT / folder["source"].partition(":-")[2].rstrip("}")).is_dir()

    @pytest.mark.parametrize("name", CONTAINERS)
    def test_can_be_scaled_unless_they_are_servers(self, name: str) -> None:
        """No fixed name; no port of the host but the gateway's, at the loopback address."""
        assert "container_name" not in CONTAINERS[name]
        if name == "gateway":
            assert CONTAINERS[name]["ports"] == [
                "${OMS_ADDRESS:-127.0.0.1}:${OMS_PORT:-5011}:5011",
                "${OMS_ADDRESS:-127.0.0.1}:${OMS_HTTPS_PORT:-5010}:5010",
            ]
        else:
            assert "ports" not in CONTAINERS[name]

    @pytest.mark.parametrize("name", [*SERVICES, *sorted(SERVERS)])
    def test_say_when_they_are_healthy(self, name: str) -> None:
        """Every one that stays; the services by their own answer."""
        test = CONTAINERS[name]["healthcheck"]["test"]

        assert test
        if name in SERVICES:
            assert "/readyz" in test[-1]

    @pytest.mark.parametrize("name", SERVICES)
    def test_start_when_everything_is_prepared(self, name: str) -> None:
        """The job has ended well before a service starts."""
        assert CONTAINERS[name]["depends_on"]["prepare"] == {"condition": "service_completed_successfully"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_are_given_time_to_end(self, name: str) -> None:
        """Longer than SHUTDOWN_SECONDS and its margin."""
        assert CONTAINERS[name]["stop_grace_period"] == "30s"
        assert configuration()["SHUTDOWN_SECONDS"] < 25

    def test_prepare_parts_that_exist(self) -> None:
        """The jobs' commands name parts of ``cli.prepare``, between them all."""
        named = [part for job in JOBS for part in CONTAINERS[job]["command"][4:]]

        assert sorted(named) == sorted(PARTS)
        assert all(CONTAINERS[job]["command"][:4] == ["python", "-m", "cli", "prepare"] for job in JOBS)


class TestNetworks:
    """Who sees whom."""

    def test_lead_to_a_server_only_those_who_use_it(self) -> None:
        """Databases to their owners, Redis to who keeps copies, the broker to all services."""

        def members(network: str) -> set[str]:
            return {name for name, each in CONTAINERS.items() if network in each.get("networks", [])}

        assert members("databases") == DATABASES.keys() | {"postgres", "prepare", "oms"}
        assert members("cache") == cache_users() | {"redis"}
        assert members("broker") == SERVICES.keys() | {"rabbitmq", "prepare", "oms"}
        assert members("door") == {"gateway"}
        assert members("mail") == {"notifications"}

    def test_have_no_way_out_but_two(self) -> None:
        """The gateway's, for its published port, and the way to a mail server."""
        assert {name for name, each in FILE["networks"].items() if not each.get("internal")} == {"door", "mail"}

    def test_are_all_used(self) -> None:
        """Networks and volumes that are declared are those that are named."""
        networks = {name for each in CONTAINERS.values() for name in each.get("networks", [])}
        mounts = [mount for each in CONTAINERS.values() for mount in each.get("volumes", [])]
        mounts = [mount for mount in mounts if not isinstance(mount, dict) or mount["type"] == "volume"]
        volumes = {mount["source"] if isinstance(mount, dict) else mount.partition(":")[0] for mount in mounts}

        assert networks == FILE["networks"].keys()
        assert volumes == FILE["volumes"].keys()


class TestVariables:
    """What is told to containers and asked of the person."""

    @pytest.mark.parametrize("name", sorted(SERVICES.keys() | JOBS | BY_HAND))
    def test_are_read_by_config_or_code(self, name: str) -> None:
        """No variable that nobody reads."""
        assert CONTAINERS[name]["environment"].keys() <= environment_variables() | {"USER"}

    def test_for_a_person_are_all_told_at_the_top_and_optional(self) -> None:
        """The first lines name every one; each has a default, so that one command is enough."""
        asked = dict(re.findall(r"(?<!\$)\$\{(\w+)(.*?)\}", TEXT))
        head = TEXT.partition("\nname:")[0] + " OMS_VERSION"

        assert all(default.startswith(":-") for default in asked.values())
        assert [name for name in asked if name not in head] == []

    def test_hold_no_secret(self) -> None:
        """No password stands in the file, not even one for development."""
        assert not re.findall(r"://[^/\s:]+:[^/\s@$]+@", TEXT)
        assert "development-only" not in TEXT


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    """An empty volume of secrets, and the addresses of docker-compose.yml."""
    for name, value in FILE["x-addresses"].items():
        monkeypatch.setenv(name, value)
    for name in ("JWT_SECRET", "ADMIN_PASSWORD", "AMQP_SSL"):
        monkeypatch.delenv(name, raising=False)
    return State(tmp_path / "run")


def told(state: State, service: str) -> dict[str, str]:
    """What a service's file of secrets says."""
    text = (state.folder / "for" / service / "environment").read_text()
    return dict(re.findall(r"^export (\w+)='(.*)'$", text, re.MULTILINE))


class TestSecrets:
    """What the job ``secrets`` makes for the others."""

    def test_are_in_a_folder_for_each_container(self, state: State) -> None:
        """Each folder that a container sees is made, and no other."""
        make_secrets(state)

        made = {f"for/{folder.name}" for folder in (state.folder / "for").iterdir()}

        assert made == {folder_of(name) for name in SERVICES.keys() | SERVERS | BY_HAND}
        assert all(folder_of(name) is None for name in JOBS)

    def test_tell_all_how_to_trust_a_broker_with_tls(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where the environment of the job says it; else nothing."""
        make_secrets(state)
        assert not any("AMQP_SSL" in told(state, name) for name in (*SERVICES, "operator"))

        monkeypatch.setenv("AMQP_SSL", "{ca_certs: /run/tls/ca.pem}")
        make_secrets(state)

        assert {told(state, name)["AMQP_SSL"] for name in (*SERVICES, "operator")} == {"{ca_certs: /run/tls/ca.pem}"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_tell_a_service_its_own_accounts(self, name: str, state: State) -> None:
        """Its broker user and its database, with passwords that no other service has."""
        make_secrets(state)

        own = told(state, name)

        password = (state.secrets / f"rabbitmq-{name}").read_text().strip()
        assert own["AMQP_URI"] == f"amqp://{name}:{password}@rabbitmq:5672/oms"
        assert ("DATABASE_URL" in own) == (name in DATABASES)
        others = "".join(str(told(state, other)) for other in SERVICES if other != name)
        assert password not in others
        assert own.get("DATABASE_URL", "none of its own") not in others

    @pytest.mark.parametrize("name", DATABASES)
    def test_lead_to_the_services_database(self, name: str, state: State) -> None:
        """With the driver the services use."""
        make_secrets(state)

        url = told(state, name)["DATABASE_URL"]

        assert re.fullmatch(rf"postgresql\+psycopg2://{name}:[\w-]{{32}}@postgres:5432/{DATABASES[name]}", url)
        assert given_postgres().startswith("postgresql+psycopg2://")

    def test_tell_the_operator_where_to_look(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every database as its service's role, the broker as its operator; nothing of an administrator."""
        make_secrets(state)
        environment = told(state, "operator")
        for name, value in {**environment, **CONTAINERS["oms"]["environment"]}.items():
            monkeypatch.setenv(name, value)

        places = find_places(None)

        assert {f"{url}" for url in places.database_urls.values()} == {
            told(state, service)["DATABASE_URL"] for service in DATABASES
        }
        password = (state.secrets / "rabbitmq-operator").read_text().strip()
        assert find_operator_url(None) == f"amqp://operator:{password}@rabbitmq:5672/oms"
        assert places.management == Management("http://rabbitmq:15672", "operator", password)
        administrators = [(state.secrets / name).read_text().strip() for name in ("postgres", "rabbitmq", "redis")]
        assert not [each for each in administrators if each in str(environment)]

    def test_stay_what_they_are(self, state: State) -> None:
        """A second run changes nothing."""
        make_secrets(state)
        before = {file: file.read_text() for file in state.folder.rglob("*") if file.is_file()}

        make_secrets(state)

        assert {file: file.read_text() for file in state.folder.rglob("*") if file.is_file()} == before

    def test_are_chosen_by_the_person_who_wants_to(self, state: State, monkeypatch: pytest.MonkeyPatch) -> None:
        """JWT_SECRET and ADMIN_PASSWORD, also after the first time."""
        make_secrets(state)
        monkeypatch.setenv("JWT_SECRET", "j" * 40)
        monkeypatch.setenv("ADMIN_PASSWORD", "chosen by a person")

        make_secrets(state)

        assert {told(state, name)["JWT_SECRET"] for name in SERVICES} == {"j" * 40}
        assert (state.secrets / "admin").read_text() == "chosen by a person\n"

    def test_are_readable_only_where_another_user_must(self, state: State) -> None:
        """The complete set is its owner's; a container's folder is guarded by who mounts it."""
        make_secrets(state)

        assert {file.stat().st_mode & 0o777 for file in state.secrets.iterdir()} == {0o600}
        assert state.secrets.stat().st_mode & 0o777 == 0o700
