"""Marks that must never be seen again: in secrets, tokens, addresses and bodies, each with a name.

What the suite logs, prints, measures and is refused with is looked through as it comes (`tests/conftest.py`,
`watch` and its callers); the run fails when a mark is in it, and names the mark and the place, never the value.

The one exception is e-mail on the console, which is standard output by design: it is cut out before the search.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

PROBLEM = "application/problem+json"
_MARK = "cnry"
_DIGITS = "7f3a9c51e2"
_CONSOLE = re.compile(r"\n  ---- e-mail ----\n.*?\n  -{16}\n", re.DOTALL)
LOG_LINE = re.compile(r'^(\{"timestamp"|\d{4}-\d\d-\d\d[T ]\S+ +\[|Traceback|  File |\S*(Error|Exception)\b)')


def canary(name: str) -> str:
    """A value for the fixture that needs one. The name is in it, so that whoever finds it can tell what was lost."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name), name
    return f"{_MARK}-{name}-{_DIGITS}"


FORMS: dict[str, re.Pattern[str]] = {  # what is secret by its form, whoever made it
    "token": re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    "webhook secret": re.compile(r"whsec_[A-Za-z0-9+/]{32,}"),
    "ticket": re.compile(r"[?&]ticket=[A-Za-z0-9_-]{16,}"),
    "address": re.compile(r"(?!engine@|sender@)\b[A-Za-z0-9][\w.+-]*@example\.(?:org|com|net)\b"),
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "password in an address": re.compile(
        r"\b(?:mongodb(?:\+srv)?|rediss?(?:\+\w+)?|smtp|https?)://[^\s/@:*]*:[^\s/@*]+@"
    ),
}
_NAMED = re.compile(rf"{_MARK}-([a-z]+(?:-[a-z]+)*)-{_DIGITS}")
_LOGGED_AS_TEXT = re.compile(r"\\+u00(?:40)", re.IGNORECASE)


def found_in(text: str) -> set[str]:
    """The names of what is in it."""
    text = _LOGGED_AS_TEXT.sub("@", _CONSOLE.sub("\n", text))
    return {found[1] for found in _NAMED.finditer(text)} | {n for n, form in FORMS.items() if form.search(text)}


def logged(text: str) -> str:
    """The log lines of a command's output; what else it prints is what it was asked for (`token` prints a token)."""
    return "\n".join(line for line in text.splitlines() if LOG_LINE.match(line))


@dataclass
class Watch:
    """`found`: name of the mark and place, once each. `looked`: how much was looked through, by kind of place."""

    found: set[tuple[str, str]] = field(default_factory=set)
    looked: dict[str, int] = field(default_factory=dict)

    def look(self, kind: str, place: str, text: str) -> None:
        self.looked[kind] = self.looked.get(kind, 0) + len(text)
        self.found |= {(name, f"{kind} of {place}") for name in found_in(text)}

    def report(self) -> Iterator[str]:
        for name, place in sorted(self.found):
            yield f"canary {name!r} was seen in {place}"


watch = Watch()


def here() -> str:
    """The test that runs."""
    return os.environ.get("PYTEST_CURRENT_TEST", "the session").partition(" (")[0]


def watched() -> aiohttp.TraceConfig:
    """For a client's session: every problem that it is answered is looked through, whatever the test makes of it."""
    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(_ended)
    trace.on_response_chunk_received.append(_received)
    return trace


async def _ended(_: Any, context: SimpleNamespace, given: aiohttp.TraceRequestEndParams) -> None:
    context.problem = given.response.content_type == PROBLEM


async def _received(_: Any, context: SimpleNamespace, given: aiohttp.TraceResponseChunkReceivedParams) -> None:
    if getattr(context, "problem", False):
        watch.look("problem details", here(), given.chunk.decode(errors="replace"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Everything that the test and its engines wrote: standard output and error, and the log."""
    if report.when == "teardown":
        for heading, text in report.sections:
            watch.look(heading.lower(), report.nodeid, text)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist hands on what it found; the process that began the run decides."""
    if (handed_on := getattr(session.config, "workeroutput", None)) is not None:
        handed_on["canaries"] = sorted(watch.found)
    elif watch.found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker that crashed hands on nothing; its tests fail the run."""
    watch.found |= {(name, place) for name, place in getattr(node, "workeroutput", {}).get("canaries", ())}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in watch.report():
        terminalreporter.write_line(f"FAILED {line}", red=True)
