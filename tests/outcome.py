"""What a run says as it goes: a failure at once, in case the run is ended from outside before its summary, and an end
to the run when the server that every test needs is gone."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

LINES = 12
servers: dict[int, Path] = {}  # by process id, the log of a server that outlives single tests


class Told:
    """Registered where the terminal is: in the one process, or in the one that began the workers."""

    def __init__(self, terminal: Any) -> None:
        self._terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            last = str(report.longrepr).splitlines()[-LINES:]
            self._terminal.write_line("\n".join(["", f"{report.when} of {report.nodeid} failed:", *last]))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if terminal := config.pluginmanager.get_plugin("terminalreporter"):
        config.pluginmanager.register(Told(terminal))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (gone := [log for pid, log in servers.items() if not Path(f"/proc/{pid}").exists()]):
        fatal = [line for line in gone[0].read_text(errors="replace").splitlines() if '"s":"F"' in line]
        item.session.shouldfail = "\n".join(["The suite's mongod ended by itself; its last words:", *fatal[:LINES]])
    return report
