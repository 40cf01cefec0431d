"""Every manifest is what Kubernetes and the operators understand, and no pod may do more than it must."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema  # type: ignore[import-untyped]
import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from cli.configuration import configuration
from cli.services import SERVICES
from services.chassis.container import STOP_MARGIN_SECONDS
from tests.deploy.kustomize import Document, build, containers, documents, pod

ROOT: Final = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
SCHEMAS: Final = Path(__file__).parent / "schemas"
TREES: Final = {"base": build(ROOT / "base"), "production": build(ROOT / "overlays" / "production")}
VERSIONS: Final = ("1.30", kubernetes_validate.latest_version())
"""The oldest version that deploy/kubernetes/README.md promises, and the newest that is known here."""

CUSTOM: Final = {
    "RabbitmqCluster": "rabbitmq.com-rabbitmqcluster.json",
    "Cluster": "postgresql.cnpg.io-cluster.json",
    "ScaledObject": "keda.sh-scaledobject.json",
}


def title(document: Document) -> str:
    """How a document is called in a test's name."""
    return f"{document['kind']}-{document['metadata']['name']}"


EVERY: Final = [
    pytest.param(document, id=f"{tree}-{title(document)}") for tree, found in TREES.items() for document in found
]
PODS: Final = [
    pytest.param(document, id=f"{tree}-{title(document)}")
    for tree, found in TREES.items()
    for document in found
    if pod(document)
]


def schema_of(document: Document) -> Any:
    """The schema of a custom resource."""
    return json.loads((SCHEMAS / CUSTOM[document["kind"]]).read_text())


def one(tree: str, kind: str, name: str) -> Document:
    """The one document of that kind and name."""
    (found,) = (each for each in TREES[tree] if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


class TestEveryManifest:
    """What is written in them is understood."""

    @pytest.mark.parametrize("document", EVERY)
    def test_is_valid(self, document: Document) -> None:
        """No field is unknown, missing or of another type."""
        if document["kind"] in CUSTOM:
            jsonschema.Draft7Validator(schema_of(document)).validate(document)
            return

        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)

    @pytest.mark.parametrize(
        ("kind", "name"),
        [
            ("Deployment", "orders"),
            ("RabbitmqCluster", "rabbitmq"),
            ("Cluster", "orders-db"),
            ("ScaledObject", "orders"),
        ],
    )
    def test_with_an_unknown_field_is_refused(self, kind: str, name: str) -> None:
        """The validation is strict: a misspelt field is found."""
        document = one("production", kind, name)
        wrong = {**document, "spec": {**document["spec"], "replica": 3}}

        with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
            self.test_is_valid(wrong)

    @pytest.mark.parametrize("tree", TREES)
    def test_stands_there_once(self, tree: str) -> None:
        """No two documents of one kind have one name."""
        names = [title(each) for each in TREES[tree]]

        assert len(names) == len(set(names))

    @pytest.mark.parametrize("tree", TREES)
    def test_belongs_to_a_step_of_the_start(self, tree: str) -> None:
        """``apply.sh`` applies by label: one that has none would be left out."""
        steps = {"server", "job", "service", "operator"}

        assert not [
            title(d) for d in TREES[tree] if d["metadata"]["labels"]["app.kubernetes.io/component"] not in steps
        ]

    def test_file_is_named_by_a_kustomization(self) -> None:
        """No file lies there unused."""
        named = {
            (tree / name).resolve()
            for tree in (ROOT / "base", ROOT / "overlays" / "production")
            for settings in documents(tree / "kustomization.yaml")
            for name in [*settings["resources"], *(patch["path"] for patch in settings["patches"])]
        }
        files = {file.resolve() for file in ROOT.rglob("*.yaml") if file.name != "kustomization.yaml"}

        assert files == {each for each in named if each.is_file()}


class TestEveryPod:
    """What a pod may do, and how it lives and ends."""

    @pytest.mark.parametrize("document", PODS)
    def test_may_do_no_more_than_it_must(self, document: Document) -> None:
        """Not root, nothing to write, no capability, no account of the cluster's API, the runtime's system calls."""
        spec = (pod(document) or {})["spec"]

        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(document):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    @pytest.mark.parametrize("document", PODS)
    def test_says_what_it_needs(self, document: Document) -> None:
        """Requests and limits, memory's limit no smaller than its request."""
        for container in containers(document):
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()

    @pytest.mark.parametrize("document", PODS)
    def test_holds_no_secret(self, document: Document) -> None:
        """What is secret comes by reference, or is put together from references."""
        for container in containers(document):
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "SECRET")):
                    assert "secretKeyRef" in variable["valueFrom"]
                if "://" in variable.get("value", "") and "@" in variable["value"]:
                    assert "_PASSWORD)@" in variable["value"]

    @pytest.mark.parametrize("name", SERVICES)
    def test_may_end_in_its_own_time(self, name: str) -> None:
        """The grace is longer than the wait before the end, the work that runs, and the margin after it."""
        deployment = one("production", "Deployment", name)
        (container,) = containers(deployment)
        waits = float(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0, 0])[1])
        ends = waits + configuration()["SHUTDOWN_SECONDS"] + STOP_MARGIN_SECONDS

        assert ends < deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]

    @pytest.mark.parametrize("tree", TREES)
    def test_no_manifest_is_a_secret(self, tree: str) -> None:
        """Secrets are named, never written down."""
        assert not [title(each) for each in TREES[tree] if each["kind"] == "Secret"]


class TestProduction:
    """More than one of everything, and something that looks after their number."""

    def test_has_three_of_every_server(self) -> None:
        """Three brokers; three instances of each database, of which two have every commit."""
        clusters = [each["spec"] for each in TREES["production"] if each["kind"] == "Cluster"]

        assert one("production", "RabbitmqCluster", "rabbitmq")["spec"]["replicas"] == 3
        assert {each["instances"] for each in clusters} == {3}
        assert {each["postgresql"]["synchronous"]["number"] for each in clusters} == {1}

    def test_makes_quorum_queues_by_default(self) -> None:
        """Also for queues that nobody gave a type."""
        settings = one("production", "RabbitmqCluster", "rabbitmq")["spec"]["rabbitmq"]["additionalConfig"]

        assert "default_queue_type = quorum" in settings.splitlines()

    @pytest.mark.parametrize("name", SERVICES)
    def test_scales_and_guards_every_service(self, name: str) -> None:
        """One autoscaler with at least two instances, one disruption budget that selects the service's pods."""
        scalers = [
            each["spec"].get("minReplicas") or each["spec"]["minReplicaCount"]
            for each in TREES["production"]
            if each.get("spec", {}).get("scaleTargetRef", {}).get("name") == name
        ]
        labels = one("production", "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        budget = one("production", "PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"]

        assert len(scalers) == 1
        assert scalers[0] >= 2
        assert budget.items() <= labels.items()

    def test_has_connections_for_every_instance(self) -> None:
        """As many instances as may be, one more while rolling out, each with two pools, leave some to the operator."""
        scalers = {
            each["metadata"]["name"]: each["spec"] for each in TREES["production"] if each["kind"] == "ScaledObject"
        }

        for cluster in (each for each in TREES["production"] if each["kind"] == "Cluster"):
            service = cluster["metadata"]["name"].removesuffix("-db")
            wanted = 2 * (scalers[service]["maxReplicaCount"] + 1) * configuration()["DB_POOL_SIZE"]
            assert wanted + 20 <= int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
