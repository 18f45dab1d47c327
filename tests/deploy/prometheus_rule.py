"""`make rules`: the Prometheus operator's resource, from the rules of Prometheus itself.

Kustomize can put a file into a ConfigMap but not into a field of a resource, so the copy is generated and compared.
"""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
RESOURCE = ROOT / "deploy/kubernetes/base/prometheus-rule.yaml"
HEAD = """\
# Generated from deploy/prometheus/rules.yml by `make rules`: change it there. For the Prometheus operator; without it,
# leave this line out of the kustomization. Yours may want a label (`ruleSelector`, often `release`).
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: intellibrowse-notifications
  labels:
    app: intellibrowse
spec:
"""


def resource() -> str:
    """The text of the rules as it is, two columns to the right; its comments go with it."""
    rules = RULES.read_text()
    body = rules[rules.index("groups:\n") :]
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in body.splitlines(keepends=True))


if __name__ == "__main__":
    RESOURCE.write_text(resource())
