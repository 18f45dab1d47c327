"""HTTP fuzzing by schemathesis, over the OpenAPI document that the engine serves: nothing is typed in for a route.

What is off, and why:
- `GET .../stream` (and whatever else answers with an event stream): its answer never ends; see tests of the live inbox.
- `POST .../logout` ends the very token that the fuzzer holds, and `.../token` takes an API key, which it does not hold.
- `object_level_authorization` needs the identities of peers in a file of its own form; who sees whose object is proven
  route by route, by tests made from the same document.
- Of `positive_data_acceptance` the statuses 422 is added: a cursor that we gave, a moment in the future, a template
  that exists have no words in JSON Schema. For it the check `refusals_are_problems` holds, and every operation
  without an id in its path must have been reached at least once (`Tally.never_reached`).
- `use_after_free` for types and templates: whoever deletes an override is shown the built-in one again, by design; and
  for API keys: one that was revoked stays to be looked at.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import ClientSession
from tests.chaos.cluster import die_with_parent
from tests.fuzz.world import ClosedEngine

PUBLIC = ("callbacks", "unsubscribe")  # signed, or opened by what was mailed: nothing that is made up is accepted
SHOWN_ON = ("types", "templates", "API keys")
OWN_END = "/api/v1/auth/logout"
BY_KEY = "/api/v1/auth/token"
ACCEPTABLE = ["2xx", "3xx", 401, 403, 404, 409, 422, 429, "5xx"]
REFUSED = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
UNSIGNED = [*ACCEPTABLE, 400]


@dataclass
class Tally:
    """`statuses`: those that came, by operation."""

    code: int
    output: str
    statuses: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    cases: int = 0

    def read(self, path: Path) -> "Tally":
        for line in path.read_text().splitlines():
            label, method, _, status = json.loads(line)
            self.cases += 1
            if label.startswith(f"{method} "):  # not: a method that the path does not have
                self.statuses[label].add(status)
        return self

    def never_reached(self, labels: set[str]) -> set[str]:
        """Neither a success nor a conflict came: nothing behind the checks of the input was ever tried."""
        return {label for label in labels if not any(s < 300 or s == 409 for s in self.statuses[label])}


def configuration(document: dict[str, Any], *, seed: int | None, examples: int) -> str:
    """In TOML; the operations without an end, and the public ones, are found by what the document says of them."""
    lines = [
        *([] if seed is None else [f"seed = {seed}"]),
        'hooks = "tests.fuzz.hooks"',
        "continue-on-failure = true",
        "request-timeout = 30",
        "warnings = false",
        "[auth.openapi.HTTPBearer]",
        'bearer = "${FUZZ_TOKEN}"',
        "[generation]",
        f"max-examples = {examples}",
        f"deterministic = {json.dumps(seed is None)}",
        'database = "none"',
        "[phases.stateful]",
        "max-steps = 12",
        f"generation.max-examples = {2 * examples}",
        "[checks]",
        f"positive_data_acceptance.expected-statuses = {json.dumps(ACCEPTABLE)}",
        f"negative_data_rejection.expected-statuses = {json.dumps(REFUSED)}",
        "object_level_authorization.enabled = false",
    ]
    for path in (*endless(document), OWN_END):
        lines += ["[[operations]]", f"include-path = {json.dumps(path)}", "enabled = false"]
    for tag in PUBLIC:
        lines += ["[[operations]]", f'include-tag = "{tag}"']
        lines += [f"checks.positive_data_acceptance.expected-statuses = {json.dumps(UNSIGNED)}"]
    for tag in SHOWN_ON:
        lines += ["[[operations]]", f'include-tag = "{tag}"', "checks.use_after_free.enabled = false"]
    return "\n".join(lines) + "\n"


def endless(document: dict[str, Any]) -> set[str]:
    return {path for path, _, operation in operations(document) if "text/event-stream" in json.dumps(operation)}


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, o) for path, methods in document["paths"].items() for method, o in methods.items()]


def acceptable(document: dict[str, Any]) -> set[str]:
    """The labels of the operations that an authorised caller can succeed with."""
    skipped = {*endless(document), OWN_END, BY_KEY}
    return {
        f"{method.upper()} {path}"
        for path, method, operation in operations(document)
        if path not in skipped and not set(PUBLIC).intersection(operation.get("tags", []))
    }


async def document_of(engine: ClosedEngine) -> dict[str, Any]:
    async with ClientSession() as session, session.get(f"{engine.address}/openapi.json") as answer:
        assert answer.status == 200
        return dict(await answer.json())


async def fuzz(
    engine: ClosedEngine,
    directory: Path,
    token: str,
    phases: str,
    *,
    seed: int | None,
    examples: int,
    document: dict[str, Any] | None = None,
) -> Tally:
    """Runs schemathesis in a process of its own. What it found stands in `output`, with a command that repeats it.

    Without a seed the inputs are the same at every run. `document`: in place of the engine's own.
    """
    config, tally, told = directory / "fuzz.toml", directory / "tally.jsonl", directory / "openapi.json"
    told.write_text(json.dumps(document or await document_of(engine)))
    config.write_text(configuration(json.loads(told.read_text()), seed=seed, examples=examples))
    tally.write_text("")
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", str(told), "--url", engine.address, "--phases", phases, "--no-color"),
        cwd=directory,
        env=os.environ | {"FUZZ_TALLY": str(tally), "FUZZ_TOKEN": token, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )
    try:
        out, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return Tally(child.returncode or 0, out.decode()).read(tally)
