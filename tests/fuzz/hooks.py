"""Loaded by schemathesis: what it sends and gets is counted, and every refusal is looked at as one of ours.

`FUZZ_TALLY` names the file that gets one line a case: operation, mode of generation, status.
"""

import json
import os
from typing import Any

import schemathesis

PROBLEM = "application/problem+json"
PAGES = ("text/html",)  # of links that people open: refused by a page


@schemathesis.check
def refusals_are_problems(_: Any, response: Any, case: Any) -> None:
    """With the request's id and the answer's status; what is refused as invalid says which field is meant, or why."""
    mode = case.meta.generation.mode.value if case.meta else "none"
    with open(os.environ["FUZZ_TALLY"], "a") as tally:
        print(json.dumps([case.operation.label, case.method, mode, response.status_code]), file=tally)
    if response.status_code < 400:
        return
    kind = (response.headers.get("content-type") or [""])[0].partition(";")[0]
    if kind in PAGES:
        return
    assert kind == PROBLEM, f"{response.status_code} came as {kind!r}"
    body = json.loads(response.content)
    assert body["status"] == response.status_code, "the body tells of another status"
    assert body["request_id"] == response.headers["x-request-id"][0], "the body tells of another request"
    assert body["title"], "without a title"
    assert body["detail"], "without a reason"
