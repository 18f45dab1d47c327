"""The manifests against the API's schemas, against each other, and against what the engine has and does."""

import re
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from prometheus_client.parser import text_string_to_metric_families
from tests.deploy.dockerfile import parse
from tests.deploy.kustomize import Document, render
from tests.deploy.prometheus_rule import RESOURCE, RULES, resource
from tests.deploy.settings_used import known
from tests.integration.conftest import API, Running
from typer.testing import CliRunner

from notification_engine.cli.main import app
from notification_engine.settings import Settings
from notification_engine.wiring import DATABASE_SECONDS, EngineRole, drain_seconds

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
TREES = [path.parent for path in sorted(FOLDER.rglob("kustomization.yaml"))]
ENGINE = "intellibrowse-notification-engine"
SECRET: Document = yaml.safe_load((FOLDER / "base/secret.example.yaml").read_text())
# Of the operator's own definitions, what is used here, stricter where those let anything through.
SERVICE_MONITOR = {
    "type": "object",
    "required": ["selector", "endpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {"type": "object", "required": ["matchLabels"], "additionalProperties": False,
                     "properties": {"matchLabels": {"additionalProperties": {"type": "string"}}}},
        "endpoints": {"type": "array", "minItems": 1, "items": {
            "type": "object", "required": ["port"], "additionalProperties": False,
            "properties": {"port": {"type": "string"}, "path": {"type": "string", "pattern": "^/"},
                           "interval": {"pattern": "^[0-9]+s$"}, "scrapeTimeout": {"pattern": "^[0-9]+s$"}}}},
    },
}  # fmt: skip
DURATION = {"type": "string", "pattern": "^([0-9]+(ms|[smhdwy]))+$"}
TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
NAME = {"type": "string", "minLength": 1}
EXPRESSION = {"type": ["string", "integer"]}
PROMETHEUS_RULE = {
    "type": "object",
    "required": ["groups"],
    "additionalProperties": False,
    "properties": {"groups": {"type": "array", "minItems": 1, "items": {
        "type": "object", "required": ["name", "rules"], "additionalProperties": False,
        "properties": {"name": NAME, "interval": DURATION, "rules": {"type": "array", "items": {"oneOf": [
            {"type": "object", "required": ["record", "expr"], "additionalProperties": False,
             "properties": {"record": NAME, "expr": EXPRESSION, "labels": TEXTS}},
            {"type": "object", "required": ["alert", "expr"], "additionalProperties": False,
             "properties": {"alert": NAME, "expr": EXPRESSION, "for": DURATION, "keep_firing_for": DURATION,
                            "labels": TEXTS, "annotations": TEXTS}},
        ]}}}}}},
}  # fmt: skip
OPERATORS = {"ServiceMonitor": SERVICE_MONITOR, "PrometheusRule": PROMETHEUS_RULE}


def of(tree: str, kind: str, name: str | None = None) -> Document:
    found = [d for d in render(FOLDER / tree) if d["kind"] == kind and name in {None, d["metadata"]["name"]}]
    assert len(found) == 1, (tree, kind, name)
    return found[0]


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Each pod's specification, by the name of what makes it."""
    for document in documents:
        template = document.get("spec", {}).get("template") or document.get("spec", {}).get("jobTemplate", {}).get(
            "spec", {}
        ).get("template")
        if template:
            yield document["metadata"]["name"], template["spec"]


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: str(tree.relative_to(FOLDER)))
def test_what_kustomize_makes_follows_the_schemas(tree: Path) -> None:
    documents = render(tree)
    assert documents
    for document in documents:
        if document["kind"] in OPERATORS:
            Draft202012Validator(OPERATORS[document["kind"]]).validate(document["spec"])
        else:
            kubernetes_validate.validate(document, "1.30", strict=True)


def test_every_file_is_part_of_something() -> None:
    used = {
        (kustomization.parent / name).resolve()
        for kustomization in FOLDER.rglob("kustomization.yaml")
        for name in yaml.safe_load(kustomization.read_text())["resources"]
    }
    files = {p for p in FOLDER.rglob("*.yaml") if p.name not in {"kustomization.yaml", "secret.example.yaml"}}
    assert files <= used
    kubernetes_validate.validate(SECRET, "1.30", strict=True)


def test_the_operators_rules_are_those_of_prometheus() -> None:
    """One list, written once: what the operator gets is generated. Of groups with one name it would keep one."""
    assert RESOURCE.read_text() == resource(), "run `make rules`"
    rules = of("base", "PrometheusRule")
    assert rules["spec"] == yaml.safe_load(RULES.read_text())
    names = [group["name"] for group in rules["spec"]["groups"]]
    assert len(set(names)) == len(names), "a map by name to the operator"
    for one in ({"alert": "A", "record": "b", "expr": "1"}, {"alert": "A", "expr": "1", "for": "soon"}, {"expr": "1"}):
        with pytest.raises(ValidationError):
            Draft202012Validator(PROMETHEUS_RULE).validate({"groups": [{"name": "x", "rules": [one]}]})


def guide() -> list[Document]:
    text = (ROOT / "docs/deployment-guide.md").read_text()
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if b.startswith("apiVersion: apps/v1"))
    return list(yaml.safe_load_all(block))


def test_the_guides_deployment_and_service_are_in_it() -> None:
    """Names, labels, replicas, secrets, resources, probes' paths and the ports, all as the guide has them."""
    theirs, service = guide()
    ours = of("base", "Deployment")
    for part in ("metadata", "selector"):
        assert (ours | ours["spec"])[part] == (theirs | theirs["spec"])[part]
    assert ours["spec"]["replicas"] == theirs["spec"]["replicas"]
    mine, guides = (d["spec"]["template"]["spec"]["containers"][0] for d in (ours, theirs))
    assert mine["name"] == guides["name"]
    assert mine["resources"] == guides["resources"]
    assert mine["image"].partition(":")[0] == guides["image"].partition(":")[0]
    assert mine["ports"][0]["containerPort"] == guides["ports"][0]["containerPort"]
    assert {e["name"] for e in guides["env"]} <= {e["name"] for e in mine["env"]}
    assert all(_same_secret(e, mine["env"]) for e in guides["env"])
    for probe in ("livenessProbe", "readinessProbe"):
        assert mine[probe]["httpGet"]["path"] == guides[probe]["httpGet"]["path"]
        assert mine[probe]["periodSeconds"] == guides[probe]["periodSeconds"]
    exposed = of("base", "Service")
    assert exposed["metadata"]["name"] == service["metadata"]["name"]
    assert exposed["spec"]["selector"] == service["spec"]["selector"]
    assert exposed["spec"]["ports"][0]["port"] == service["spec"]["ports"][0]["port"]


def _same_secret(variable: Document, ours: list[Document]) -> bool:
    found = next(e["valueFrom"]["secretKeyRef"] for e in ours if e["name"] == variable["name"])
    return {"name": found["name"], "key": found["key"]} == variable["valueFrom"]["secretKeyRef"]


@pytest.mark.parametrize("tree", ["base", "overlays/split", "overlays/green"])
def test_every_pod_is_confined_and_runs_what_the_image_can(tree: str) -> None:
    user = next(i.text for i in parse(ROOT / "deploy/container/Dockerfile") if i.name == "USER")
    for name, pod in pods(render(FOLDER / tree)):
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["seccompProfile"]["type"]) == (True, "RuntimeDefault"), name
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["image"] == "intellibrowse/notification-engine:0.1.0"
            assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize("tree", ["base", "overlays/split"])
def test_every_variable_and_every_key_is_there(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = render(FOLDER / tree)
    config = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
    for name, pod in pods(documents):
        for container in pod["containers"]:
            variables = [e["name"] for e in container["env"]]
            for given in container["envFrom"]:
                variables += config[given["configMapRef"]["name"]]
            assert [v for v in variables if not known(v)] == [], name
            for variable in container["env"]:
                reference = variable["valueFrom"]["secretKeyRef"]
                assert reference["name"] == SECRET["metadata"]["name"]
                assert reference["key"] in SECRET["stringData"]
    for name, value in config["intellibrowse-config"].items():
        monkeypatch.setenv(name, value)
    assert Settings().ENVIRONMENT == "production", "every value is one that its setting takes"


def test_selectors_find_what_they_are_for() -> None:
    """The Service reaches the API alone; each scaler scales one Deployment that is there."""
    documents = render(FOLDER / "overlays/split")
    deployments = {d["metadata"]["name"]: d["spec"] for d in documents if d["kind"] == "Deployment"}
    assert set(deployments) == {ENGINE, f"{ENGINE}-daemon"}
    for spec in deployments.values():
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert _selected(of("overlays/split", "Service")["spec"]["selector"], deployments) == {ENGINE}
    budget = of("overlays/split", "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    assert _selected(budget, deployments) == {ENGINE}
    policies = [d["spec"]["podSelector"]["matchLabels"] for d in documents if d["kind"] == "NetworkPolicy"]
    assert set.union(*(_selected(labels, deployments) for labels in policies)) == set(deployments)
    scaled = [d["spec"]["scaleTargetRef"]["name"] for d in documents if d["kind"] == "HorizontalPodAutoscaler"]
    assert sorted(scaled) == sorted(deployments)
    monitored = of("overlays/split", "ServiceMonitor")["spec"]
    service = of("overlays/split", "Service")
    assert monitored["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitored["endpoints"][0]["port"] in {p["name"] for p in service["spec"]["ports"]}
    for ingress in (d for d in documents if d["kind"] == "Ingress"):
        backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
        assert (backend["name"], backend["port"]["name"]) == (service["metadata"]["name"], "http")


def _selected(labels: Document, deployments: Document) -> set[str]:
    return {n for n, s in deployments.items() if labels.items() <= s["template"]["metadata"]["labels"].items()}


def test_a_green_deployment_stands_beside_the_other_behind_the_same_service() -> None:
    green, blue = of("overlays/green", "Deployment"), of("base", "Deployment")
    assert green["metadata"]["name"] != blue["metadata"]["name"]
    assert green["spec"]["selector"] != blue["spec"]["selector"]
    selector = of("base", "Service")["spec"]["selector"]
    for deployment in (green, blue):
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_commands_are_ones_that_the_engine_has() -> None:
    runner = CliRunner()
    for tree in ("base", "overlays/split"):
        for _, pod in pods(render(FOLDER / tree)):
            container = pod["containers"][0]
            text = " ".join(container.get("command") or container.get("args") or ["notification-engine", "serve"])
            command = re.search(r"notification-engine ([a-z-]+)", text)
            assert command is not None, text
            shown = runner.invoke(app, [command[1], "--help"], env={"COLUMNS": "200"}).output
            assert "No such command" not in shown
            for option in re.findall(r"(--[a-z-]+)", text):
                assert option in shown, (text, option)
    roles = [d["spec"]["template"]["spec"]["containers"][0]["args"][-1] for d in render(FOLDER / "overlays/split")
             if d["kind"] == "Deployment"]  # fmt: skip
    assert {EngineRole(role) for role in roles} == {EngineRole.API, EngineRole.DAEMON}


def test_probes_and_graces_fit_the_engines_own_times() -> None:
    pod = of("base", "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= drain_seconds(Settings.model_construct())
    [container] = pod["containers"]
    startup = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert startup >= 2 * DATABASE_SECONDS, "a start may wait so long for a primary"
    readiness = container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
    assert readiness <= Settings.model_fields["DRAIN_DELAY_SECONDS"].default, "seen before the sockets close"


def test_backups_are_daily_and_kept_for_30_days() -> None:
    job = of("base", "CronJob")["spec"]
    minute, hour, *every = job["schedule"].split()
    assert (minute.isdigit(), hour.isdigit(), every) == (True, True, ["*", "*", "*"])
    [container] = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert "--keep-days 30" in container["command"][-1]
    assert container["volumeMounts"][0]["mountPath"] == "/backups"


async def test_what_is_scaled_by_is_in_the_metrics(running: Running) -> None:
    async with running.session.get(
        f"{running.address}{API}/health/metrics", headers={"Accept": "text/plain"}
    ) as answer:
        families = list(text_string_to_metric_families(await answer.text()))
    samples = {(s.name, tuple(sorted(s.labels.items()))) for family in families for s in family.samples}
    for tree in ("base", "overlays/split"):
        for document in render(FOLDER / tree):
            if document["kind"] == "HorizontalPodAutoscaler":
                for metric in (m["external"]["metric"] for m in document["spec"]["metrics"] if m["type"] == "External"):
                    assert (metric["name"], tuple(sorted(metric["selector"]["matchLabels"].items()))) in samples


def test_the_adapters_rule_in_the_documentation_makes_the_metric_that_is_asked_for() -> None:
    text = (ROOT / "docs/deployment.md").read_text()
    block = next(b for b in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if b.lstrip().startswith("rules:"))
    [rule] = yaml.safe_load(block)["rules"]["external"]
    [metric] = [m["external"]["metric"] for m in of("base", "HorizontalPodAutoscaler")["spec"]["metrics"][1:]]
    assert rule["name"]["as"] == metric["name"]
    assert rule["seriesQuery"] == f'{metric["name"]}{{figure="{metric["selector"]["matchLabels"]["figure"]}"}}'
    assert rule["metricsQuery"].startswith("max("), "every replica tells the whole queue"
