"""The part of kustomize that ``deploy/kubernetes`` uses, so that its trees can be read where there is no kubectl.

It knows resources, one namespace, images and strategic merge patches with a target, and refuses every other field.
Where kubectl is installed, a test compares the two.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import yaml

Document = dict[str, Any]

KNOWN: Final = {"apiVersion", "kind", "namespace", "resources", "patches", "images"}
MERGED_BY: Final = {"containers": "name", "volumes": "name", "env": "name", "volumeMounts": "mountPath"}
"""Lists whose entries are merged by this key; every other list is replaced as a whole."""


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, as Kubernetes does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        """The mapping."""
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key stands twice in {keys}"
        return super().construct_mapping(node, deep)


def documents(file: Path) -> list[Document]:
    """Every document of a YAML file."""
    return [each for each in yaml.load_all(file.read_text(), StrictLoader) if each]


def build(folder: Path) -> list[Document]:
    """What ``kubectl kustomize`` makes of the folder."""
    (settings,) = documents(folder / "kustomization.yaml")
    assert settings.keys() <= KNOWN, f"unknown to this reader: {settings.keys() - KNOWN}"
    found = [each for name in settings["resources"] for each in resource(folder / name)]
    for each in found:
        if each["kind"] != "Namespace":
            each["metadata"]["namespace"] = settings["namespace"]
    for wish in settings.get("patches", []):
        apply_patch(found, folder / wish["path"], wish.get("target"))
    for image in settings.get("images", []):
        for container in (each for document in found for each in containers(document)):
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    return found


def resource(path: Path) -> list[Document]:
    """The documents of a file, or of another tree."""
    return build(path) if path.is_dir() else documents(path)


def apply_patch(found: list[Document], file: Path, target: dict[str, str] | None) -> None:
    """Merge the patch into every document it is meant for; one that is meant for none is an error."""
    (patch,) = documents(file)
    matched = [each for each in found if is_target(each, patch, target)]
    assert matched, f"{file} patches nothing"
    for each in matched:
        wish = deepcopy(patch)
        wish["metadata"] = {**wish["metadata"], "name": each["metadata"]["name"]}
        merged = merge(each, wish)
        each.clear()
        each.update(merged)


def is_target(document: Document, patch: Document, target: dict[str, str] | None) -> bool:
    """Whether the patch is meant for the document."""
    if target is None:
        wanted: Document = patch["metadata"]
        return (document["kind"], document["metadata"]["name"]) == (patch["kind"], wanted["name"])
    assert target.keys() <= {"kind", "group", "labelSelector"}
    labels = dict(pair.split("=") for pair in target.get("labelSelector", "").split(",") if pair)
    found: dict[str, str] = document["metadata"].get("labels", {})
    kind_and_group = document["kind"] == target["kind"] and document["apiVersion"].startswith(target.get("group", ""))
    return bool(kind_and_group) and labels.items() <= found.items()


def merge(old: Any, new: Any, name: str = "") -> Any:
    """The old value with the new one merged in."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {key: merge(old[key], new[key], key) for key in old.keys() & new.keys()}
        return {**old, **new, **both}
    if isinstance(old, list) and name in MERGED_BY:
        key = MERGED_BY[name]
        wishes = {each[key]: each for each in new}
        kept = [merge(each, wishes.pop(each[key])) if each[key] in wishes else each for each in old]
        return [*wishes.values(), *kept]
    return new


def pod(document: Document) -> Document | None:
    """The pod template of a document that has one."""
    template: Document | None = document.get("spec", {}).get("template")
    return template


def containers(document: Document) -> Iterator[Document]:
    """The containers of a document's pods."""
    template = pod(document)
    if template:
        yield from template["spec"]["containers"]
