"""The child process: reads jobs, answers each before it takes the next. Dies when a job passes its limits.

Frames on both sides are a length of four bytes and JSON. Memory is bounded by the address space, processor time by a
timer whose signal ends the process, so no template can catch either.
"""

import contextlib
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from notification_engine.rendering.compile import CompileError, compile_draft
from notification_engine.rendering.sandbox import Refused, Sandbox

Frame = dict[str, Any]


def read_frame(stream: BinaryIO) -> Frame | None:
    head = stream.read(4)
    if len(head) < 4:
        return None
    frame: Frame = orjson.loads(stream.read(int.from_bytes(head)))
    return frame


def encode_frame(frame: Frame) -> bytes:
    body = orjson.dumps(frame)
    return len(body).to_bytes(4) + body


def limit_memory(megabytes: int) -> None:
    """So much beyond what the process has mapped now. Where the system knows no such limit, the others remain."""
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + megabytes * 1024 * 1024,) * 2)


def main() -> None:
    megabytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    _warm()
    limit_memory(megabytes)
    sandbox = Sandbox()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    answers.write(encode_frame({"ready": True}))
    answers.flush()
    while (job := read_frame(requests)) is not None:
        signal.setitimer(signal.ITIMER_PROF, seconds * job.get("patience", 1.0))
        answer = encode_frame(_answer(sandbox, job))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(answer)
        answers.flush()


def _answer(sandbox: Sandbox, job: Frame) -> Frame:
    try:
        return {"ok": _run(sandbox, job)}
    except Refused as error:
        place = {"field": error.part, "line": error.line, "column": error.column}
        return {"error": error.detail, "safe": error.safe, "limit": error.limit, **place}
    except CompileError as error:
        return {"error": error.detail, "field": error.field, "line": error.line, "column": error.column}
    except MemoryError:
        return {"error": "it needs too much memory", "safe": "OutOfMemory", "limit": True}


def _run(sandbox: Sandbox, job: Frame) -> Any:
    for digest in job.get("forget", ()):
        sandbox.forget(digest)
    if "draft" in job:
        return compile_draft(job["draft"], job["library"])
    if "put" in job:
        sandbox.put(job["digest"], job["put"])
    arguments = (job["digest"], job["parts"], job["context"], job["locale"], job["time_zone"])
    rendered = sandbox.render(*arguments)
    return {"parts": rendered, "missing": sandbox.missing(*arguments)} if job.get("missing") else rendered


def _warm() -> None:
    """Loads what the first job would load, so that the memory limit counts the jobs alone."""
    sandbox = Sandbox()
    sandbox.put(
        "", {"html": "{{ 0 | datetime }}{{ 1 | plural(other='#') }}{{ 1 | currency('EUR') }}{{ 1 | duration }}"}
    )
    for locale in ("en", "de"):
        sandbox.render("", ["html"], {}, locale, "Europe/Berlin")
    page = "<mjml><mj-body><mj-section><mj-column><mj-text>.</mj-text></mj-column></mj-section></mj-body></mjml>"
    locales = {"en": {"title": ".", "mjml": page}}
    compile_draft({"kind": "message", "default_locale": "en", "locales": locales}, {})


if __name__ == "__main__":
    main()
