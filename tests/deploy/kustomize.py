"""Renders a kustomization: the few features that `deploy/kubernetes` uses, and refuses the rest.

As Kustomize does it: a target's name finds what has that name or had it before a suffix; references to a renamed
resource follow it; nothing may be there twice.
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "nameSuffix", "patches", "images"}
TARGET = {"kind", "name", "labelSelector"}


@dataclass
class Resource:
    document: Document
    names: list[str] = field(default_factory=list)  # now and before

    @property
    def id(self) -> tuple[str, str]:
        return self.document["kind"], self.document["metadata"]["name"]


def render(folder: Path) -> list[Document]:
    return [resource.document for resource in _accumulate(folder)]


def _accumulate(folder: Path) -> list[Resource]:
    given = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(given) <= KNOWN, f"{folder}: {set(given) - KNOWN} is not known here"
    resources: list[Resource] = []
    for name in given["resources"]:
        place = folder / name
        if place.is_dir():
            resources += _accumulate(place)
        else:
            assert folder.resolve() in place.resolve().parents, "Kustomize takes no file from outside of its folder"
            resources += [Resource(d, [d["metadata"]["name"]]) for d in yaml.safe_load_all(place.read_text())]
    for patch in given.get("patches", []):
        _patch(resources, patch)
    for image in given.get("images", []):
        for resource in resources:
            _retag(resource.document, image["name"], image["newTag"])
    if suffix := given.get("nameSuffix"):
        _rename(resources, suffix)
    ids = [resource.id for resource in resources]
    assert len(set(ids)) == len(ids), f"{folder}: something is there twice"
    return resources


def _patch(resources: list[Resource], patch: Document) -> None:
    target = patch["target"]
    assert set(target) <= TARGET
    found = [r for r in resources if _matches(r, target)]
    assert found, f"{target} finds nothing"
    for resource in found:
        for operation in yaml.safe_load(patch["patch"]):
            apply(resource.document, copy.deepcopy(operation))


def _matches(resource: Resource, target: Document) -> bool:
    labels = resource.document["metadata"].get("labels", {})
    key, _, value = target.get("labelSelector", "").partition("=")
    return (
        resource.document["kind"] == target["kind"]
        and target.get("name", resource.names[0]) in resource.names
        and (not key or labels.get(key) == value)
    )


def apply(document: Document, operation: Document) -> None:
    """One operation of JSON Patch (RFC 6902)."""
    *parents, last = (p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:])
    place: Any = document
    for part in parents:
        place = place[int(part) if isinstance(place, list) else part]
    key: Any = int(last) if isinstance(place, list) else last
    match operation["op"]:
        case "add":
            place[key] = operation["value"]
        case "replace":
            assert place[key] is not None
            place[key] = operation["value"]
        case "remove":
            del place[key]
        case other:
            raise ValueError(f"{other} is not known here")


def _retag(value: Any, image: str, tag: str) -> None:
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _retag(child, image, tag)
    if isinstance(value, dict) and isinstance(value.get("image"), str) and value["image"].partition(":")[0] == image:
        value["image"] = f"{image}:{tag}"


def _rename(resources: list[Resource], suffix: str) -> None:
    renamed = {resource.id: resource.id[1] + suffix for resource in resources}
    for resource in resources:
        name = resource.id[1] + suffix
        resource.names.append(name)
        resource.document["metadata"]["name"] = name
        if resource.document["kind"] == "HorizontalPodAutoscaler":
            scaled = resource.document["spec"]["scaleTargetRef"]
            scaled["name"] = renamed.get((scaled["kind"], scaled["name"]), scaled["name"])
