"""What the manifests name exists in config.yaml and the code, and what those have is named by the manifests."""

import re
import stat
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from cli import topology
from cli.configuration import configuration
from cli.databases import DATABASES
from cli.doctor_places import find_places
from cli.servers.endpoints import Management
from cli.services import SERVICES
from gateway import CONTRACT
from services.chassis.probes import Probes
from tests.deploy.facts import CHECKOUT, cache_users, environment_variables, http_routes
from tests.deploy.kustomize import Document, containers
from tests.deploy.test_kubernetes_manifests import TREES, one

FOUND: Final = TREES["production"]
KUBERNETES: Final = CHECKOUT / "deploy" / "kubernetes"
OPERATOR: Final = one("production", "Deployment", "operator")
DEPLOYMENTS: Final = {
    each["metadata"]["name"]: each for each in FOUND if each["kind"] == "Deployment" and each is not OPERATOR
}
JOBS: Final = {each["metadata"]["name"]: each for each in FOUND if each["kind"] == "Job"}
EVERY: Final = {**DEPLOYMENTS, **JOBS, "operator": OPERATOR}
MADE_BY_OPERATORS: Final = {"rabbitmq-default-user", *(f"{service}-db-app" for service in DATABASES)}


def container_of(document: Document) -> Document:
    """The one container of a document's pods."""
    (found,) = containers(document)
    return found


def variables(container: Document) -> dict[str, Document]:
    """A container's own variables."""
    return {each["name"]: each for each in container.get("env", [])}


def hosts(container: Document) -> Iterator[tuple[str, int]]:
    """Every host and port that a container is told."""
    for each in container.get("env", []):
        if "://" in each.get("value", ""):
            parts = urlsplit(re.sub(r"\$\(\w+\)", "x", each["value"]))
            yield str(parts.hostname), int(parts.port or 0)


def secret_keys(node: Any) -> Iterator[tuple[str, str]]:
    """Every secret and key that is referred to, anywhere below."""
    if isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        if "secret" in node and isinstance(node["secret"], dict):
            yield from ((node["secret"]["name"], item["key"]) for item in node["secret"]["items"])
        if "secretName" in node:
            yield node["secretName"], "tls.crt"
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from secret_keys(each)


class TestServices:
    """Each of the six, with its module, port and address."""

    def test_are_all_there_and_no_other(self) -> None:
        """One deployment and one address per service."""
        addresses = {each["metadata"]["name"] for each in FOUND if each["kind"] == "Service"}

        assert DEPLOYMENTS.keys() == SERVICES.keys()
        assert addresses == SERVICES.keys() | {"redis"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_run_their_module_at_their_port(self, name: str) -> None:
        """The port of config.yaml, in the container, its variable, its address and its annotation."""
        deployment = DEPLOYMENTS[name]
        container = container_of(deployment)
        annotations = deployment["spec"]["template"]["metadata"]["annotations"]
        port = configuration()["HTTP_PORTS"][name]

        assert container["args"] == ["nameko", "run", "--config", "config.yaml", SERVICES[name].module]
        assert container["ports"] == [{"name": "http", "containerPort": port}]
        assert variables(container)["HTTP_PORT"]["value"] == str(port)
        assert one("production", "Service", name)["spec"]["ports"] == [
            {"name": "http", "port": port, "targetPort": "http"}
        ]
        assert annotations["prometheus.io/port"] == str(port)
        assert port == SERVICES[name].http_port

    @pytest.mark.parametrize("name", SERVICES)
    def test_are_asked_where_they_answer(self, name: str) -> None:
        """Probes and scraping use the routes that the code registers."""
        routes: list[str] = []

        class Server:
            @staticmethod
            def register_provider(probe: Any) -> None:
                routes.append(probe.path)

        probes = Probes()
        probes.server = Server()  # type: ignore[assignment] # all that setup() needs of one
        probes.setup()
        container = container_of(DEPLOYMENTS[name])
        asked = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        asked.add(DEPLOYMENTS[name]["spec"]["template"]["metadata"]["annotations"]["prometheus.io/path"])

        assert asked == set(routes)

    def test_are_reached_from_outside_through_the_door_alone(self) -> None:
        """The Ingress leads every route and document of the gateway to it, and no probe."""
        paths = one("production", "Ingress", "gateway")["spec"]["rules"][0]["http"]["paths"]
        prefixes = tuple(f"{path['path']}/" for path in paths if path["pathType"] == "Prefix")

        led = {each for each in {*http_routes(), *CONTRACT.files} if f"{each}/".startswith(prefixes)}
        led |= {path["path"] for path in paths if path["pathType"] == "Exact"}
        assert led == {*http_routes(), *CONTRACT.files}
        assert not any(f"{probe}/".startswith(prefixes) for probe in ("/healthz", "/readyz", "/metrics"))
        assert [path["backend"]["service"] for path in paths] == [{"name": "gateway", "port": {"name": "http"}}] * 4


class TestVariables:
    """What containers are told is what config.yaml and the code ask."""

    @pytest.mark.parametrize("document", EVERY.values(), ids=EVERY)
    def test_are_all_read_by_somebody(self, document: Document) -> None:
        """A variable is one of config.yaml's or the code's, or part of one."""
        container = container_of(document)
        told = variables(container)
        parts = {part for each in told.values() for part in re.findall(r"\$\((\w+)\)", each.get("value", ""))}

        assert told.keys() - parts <= environment_variables()
        assert parts <= told.keys()

    @pytest.mark.parametrize("document", EVERY.values(), ids=EVERY)
    def test_stand_before_those_made_of_them(self, document: Document) -> None:
        """Kubernetes fills in $(NAME) only where NAME stands before."""
        before: set[str] = set()

        for each in container_of(document)["env"]:
            assert set(re.findall(r"\$\((\w+)\)", each.get("value", ""))) <= before
            before.add(each["name"])

    def test_of_the_settings_are_known(self) -> None:
        """The ConfigMap names variables of config.yaml, and everybody who refers to one means that one."""
        settings = one("production", "ConfigMap", "settings")
        referred = {
            source["configMapRef"]["name"]
            for document in EVERY.values()
            for source in container_of(document).get("envFrom", [])
        }

        assert settings["data"].keys() <= environment_variables()
        assert settings["data"]["OMS_ENVIRONMENT"] == "production"
        assert referred == {"settings"}

    @pytest.mark.parametrize("name", SERVICES)
    def test_tell_a_service_all_it_needs_and_no_more(self, name: str) -> None:
        """Broker and secret to everybody; Redis to who keeps copies; a database to its owner."""
        told = variables(container_of(DEPLOYMENTS[name])).keys()

        assert {"AMQP_URI", "JWT_SECRET", "JWT_SECRET_PREVIOUS", "HTTP_PORT"} <= told
        assert ("REDIS_URL" in told) == (name in cache_users())
        assert ("DATABASE_URL" in told) == (name in DATABASES)

    @pytest.mark.parametrize("name", SERVICES)
    def test_lead_to_the_services_own_accounts(self, name: str) -> None:
        """Broker user and database role are named like the service; the database is its own."""
        told = variables(container_of(DEPLOYMENTS[name]))
        users = {user.name for user in topology.wanted().users}

        assert told["AMQP_URI"]["value"] == f"amqp://{name}:$(RABBITMQ_PASSWORD)@rabbitmq.oms.svc:5672/oms"
        assert name in users
        if name in DATABASES:
            address = f"{name}-db-rw.oms.svc:5432/{DATABASES[name]}"
            assert told["DATABASE_URL"]["value"] == f"postgresql+psycopg2://{name}:$(DATABASE_PASSWORD)@{address}"

    def test_tell_the_operator_where_to_look(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every database as its service's role, the broker as its operator, and no mailbox."""
        for each in container_of(OPERATOR)["env"]:
            monkeypatch.setenv(each["name"], each.get("value", "secret"))
        monkeypatch.delenv("SMTP_URL", raising=False)

        places = find_places(None)

        for name in DATABASES:
            url = variables(container_of(DEPLOYMENTS[name]))["DATABASE_URL"]["value"]
            assert places.database_urls[name] == url.replace("DATABASE_PASSWORD", f"{name.upper()}_PASSWORD")
        assert places.operator_url == "amqp://operator:$(RABBITMQ_PASSWORD)@rabbitmq.oms.svc:5672/oms"
        assert places.management == Management("http://rabbitmq.oms.svc:15672", "operator", "$(RABBITMQ_PASSWORD)")
        assert places.mailbox is None

    def test_name_only_hosts_that_are_there(self) -> None:
        """Every address is a Service, the broker's, or a database's writing one."""
        known = {
            f"{each['metadata']['name']}.oms.svc" for each in FOUND if each["kind"] in ("Service", "RabbitmqCluster")
        }
        known |= {f"{each['metadata']['name']}-rw.oms.svc" for each in FOUND if each["kind"] == "Cluster"}

        told = {host for each in EVERY.values() for host, _ in hosts(container_of(each))}

        assert told == known - {f"{name}.oms.svc" for name in SERVICES}


class TestDatabases:
    """One cluster and one migration per service that owns a database."""

    def test_are_those_of_the_code(self) -> None:
        """Database and owner are what the services' URLs say."""
        clusters = {
            each["metadata"]["name"]: each["spec"]["bootstrap"]["initdb"] for each in FOUND if each["kind"] == "Cluster"
        }

        assert clusters == {
            f"{service}-db": {"database": database, "owner": service, "dataChecksums": True}
            for service, database in DATABASES.items()
        }

    def test_are_each_migrated_by_a_job(self) -> None:
        """The job's module brings the database of its variable to the newest version."""
        migrations = {name for name in JOBS if name.endswith("-migrations")}

        assert migrations == {f"{service}-migrations" for service in DATABASES}
        for service, database in DATABASES.items():
            container = container_of(JOBS[f"{service}-migrations"])
            assert container["args"] == ["python", "-m", "services.chassis.migrations", service]
            assert variables(container)["DATABASE_URL"]["value"].endswith(f"@{service}-db-rw.oms.svc:5432/{database}")


class TestQueues:
    """What KEDA looks at is what the topology makes."""

    def test_are_all_looked_at_for_the_service_that_consumes_them(self) -> None:
        """Every event queue and RPC queue, each by the autoscaler of its consumer, and no other."""
        looked_at = {
            (each["metadata"]["name"], trigger["metadata"]["queueName"])
            for each in FOUND
            if each["kind"] == "ScaledObject"
            for trigger in each["spec"]["triggers"]
            if trigger["type"] == "rabbitmq"
        }
        names = [queue.name for queue in topology.wanted().queues]
        events = {(name.partition("--")[2].partition(".")[0], name) for name in names if name.startswith("evt-")}
        calls = {(name.removeprefix("rpc-"), name) for name in names if name.startswith("rpc-")}

        assert looked_at == events | calls

    def test_are_reached_with_the_services_own_address(self) -> None:
        """KEDA reads AMQP_URI from the container it is told, over the protocol of that address."""
        for each in (each for each in FOUND if each["kind"] == "ScaledObject"):
            target = each["spec"]["scaleTargetRef"]
            container = container_of(DEPLOYMENTS[target["name"]])
            assert container["name"] == target["envSourceContainerName"]
            for trigger in (
                trigger["metadata"] for trigger in each["spec"]["triggers"] if trigger["type"] == "rabbitmq"
            ):
                assert (trigger["hostFromEnv"], trigger["protocol"]) == ("AMQP_URI", "amqp")
                assert trigger["hostFromEnv"] in variables(container)


class TestSecrets:
    """What is referred to is what ``secrets.sh``, the operators or a person make."""

    def test_are_all_in_the_readme(self) -> None:
        """The table names exactly the secrets and keys that manifests refer to."""
        text = (KUBERNETES / "README.md").read_text()
        table = [line for line in text.splitlines() if line.startswith("| `")]
        named = set()
        for line in table:
            names = re.findall(r"`([^`]+)`", line.split("|")[1])
            prefix = names[0].rpartition("-")[0]
            keys = re.findall(r"`([^`]+)`", line.split("|")[2])
            named |= {(prefix + name if name.startswith("-") else name, key) for name in names for key in keys}
        named -= {("gateway-tls", "tls.key")}

        assert set(secret_keys(FOUND)) == named

    def test_are_made_by_the_script_unless_somebody_else_does(self) -> None:
        """The script makes every key it must, under the same names."""
        script = (KUBERNETES / "secrets.sh").read_text()
        (users,) = re.findall(r"for user in (.+); do", script)
        made = {f"rabbitmq-{user}" for user in users.split()} | set(re.findall(r"make ([a-z]+) ", script))

        assert made == {name for name, _ in secret_keys(FOUND)} - MADE_BY_OPERATORS - {"gateway-tls"}

    def test_give_the_topology_every_users_password(self) -> None:
        """The job finds each user's file where ``prepare`` looks for it."""
        job = JOBS["topology"]
        (volume,) = (each for each in job["spec"]["template"]["spec"]["volumes"] if each["name"] == "passwords")
        files = {item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]}
        (mount,) = (each for each in container_of(job)["volumeMounts"] if each["name"] == "passwords")

        assert files == {f"rabbitmq-{user.name}" for user in topology.wanted().users}
        assert mount["mountPath"] == "/run/oms/secrets"

    @pytest.mark.parametrize("name", ["apply.sh", "secrets.sh"])
    def test_scripts_can_be_run(self, name: str) -> None:
        """They are programs, and start every service there is."""
        assert (KUBERNETES / name).stat().st_mode & stat.S_IXUSR
        assert " ".join(SERVICES) in (KUBERNETES / name).read_text()


Pod = dict[str, str]
PODS: Final[dict[str, Pod]] = {
    **{name: each["spec"]["template"]["metadata"]["labels"] for name, each in EVERY.items()},
    "redis": one("production", "StatefulSet", "redis")["spec"]["template"]["metadata"]["labels"],
    "rabbitmq": {"app.kubernetes.io/name": "rabbitmq", "app.kubernetes.io/component": "rabbitmq"},
    **{f"{service}-db": {"cnpg.io/cluster": f"{service}-db"} for service in DATABASES},
}
"""Every kind of pod in the namespace with its labels, those of the operators included."""

PORTS: Final = (5432, 5672, 6379, 8000, 15672, *(service.http_port for service in SERVICES.values()))
POLICIES: Final = [each["spec"] for each in FOUND if each["kind"] == "NetworkPolicy"]


def selects(selector: Document, labels: Pod) -> bool:
    """Whether a label selector means a pod with these labels."""
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", [])
    )


def opens(rule: Document, direction: str, other: Pod, port: int, names: dict[str, int]) -> bool:
    """Whether a rule lets that pod of this namespace through at the port."""
    numbers = [(names.get(str(each["port"]), each["port"]), each.get("endPort")) for each in rule["ports"]]
    if not any(first <= port <= (last or first) for first, last in numbers):
        return False
    peers = rule.get("from" if direction == "Ingress" else "to")
    return peers is None or any(
        "namespaceSelector" not in peer and selects(peer["podSelector"], other) for peer in peers
    )


def may_pass(direction: str, pod: str, other: str, port: int) -> bool:
    """Whether the policies that select ``pod`` let it exchange with ``other`` in this direction."""
    policies = [
        each for each in POLICIES if direction in each["policyTypes"] and selects(each["podSelector"], PODS[pod])
    ]
    names = {"http": SERVICES[pod].http_port} if pod in SERVICES else {}
    rules = [rule for each in policies for rule in each.get(direction.lower(), [])]
    return not policies or any(opens(rule, direction, PODS[other], port, names) for rule in rules)


class TestNetwork:
    """The policies together allow what architecture.md draws, and nothing else."""

    def test_lets_through_exactly_what_the_code_needs(self) -> None:
        """Between every two pods at every port."""
        wanted = {(name, "rabbitmq", 5672) for name in SERVICES}
        wanted |= {(name, "redis", 6379) for name in cache_users()}
        wanted |= {(name, f"{name}-db", 5432) for name in DATABASES}
        wanted |= {(f"{name}-migrations", f"{name}-db", 5432) for name in DATABASES}
        wanted |= {("users-administrator", "users-db", 5432), ("topology", "rabbitmq", 15672)}
        wanted |= {("operator", f"{name}-db", 5432) for name in DATABASES}
        wanted |= {("operator", "rabbitmq", port) for port in (5672, 15672)}
        wanted |= {(f"{name}-db", f"{name}-db", port) for name in DATABASES for port in (5432, 8000)}

        allowed = {
            (source, target, port)
            for source, target, port in product(PODS, PODS, PORTS)
            if may_pass("Egress", source, target, port) and may_pass("Ingress", target, source, port)
        }

        assert allowed == wanted

    def test_refuses_by_default(self) -> None:
        """One policy selects every pod and allows nothing."""
        assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in POLICIES

    def test_opens_the_door_to_the_ingress_controller_alone(self) -> None:
        """Who comes from another namespace to the gateway's port: the controller, and monitoring."""
        rules = [
            (peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
            for each in POLICIES
            if selects(each["podSelector"], PODS["gateway"])
            for rule in each.get("ingress", [])
            for peer in rule["from"]
        ]

        assert sorted(rules) == ["ingress-nginx", "monitoring"]

    def test_lets_only_notifications_out_of_the_cluster(self) -> None:
        """No other service may speak to just any address; the servers may to the API's ports."""
        out = {
            (pod, port["port"])
            for pod in PODS
            for each in POLICIES
            if selects(each["podSelector"], PODS[pod])
            for rule in each.get("egress", [])
            if "to" not in rule
            for port in rule["ports"]
        }

        assert {pod for pod, _ in out if pod in SERVICES or pod in JOBS} == {"notifications"}
        assert {port for pod, port in out if pod == "notifications"} == {465, 587}


def test_readme_of_the_folder_names_both_trees() -> None:
    """Whoever opens the folder reads which is which."""
    text = (KUBERNETES / "README.md").read_text()

    assert all(Path(KUBERNETES / tree).is_dir() and tree in text for tree in ("base", "overlays/production"))
