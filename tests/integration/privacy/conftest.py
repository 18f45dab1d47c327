"""The engines that take callbacks, and the command line, here too; and everything that is logged, as in production."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.cli.conftest import invoke
from tests.integration.feedback.conftest import fed, signer, sns
from tests.unit.kit.test_logging import restored

from notification_engine.kit.logging import configure_logging

__all__ = ["fed", "invoke", "restored", "signer", "sns"]


@pytest.fixture
def logged(restored: None, tmp_path: Path) -> Callable[[], str]:
    """Everything so far, of the engine's loggers and of the server's; not of the test's own mail server."""
    file = tmp_path / "notifications.log"
    configure_logging("INFO", "json", file)

    def read() -> str:
        lines = file.read_text().splitlines(keepends=True)
        return "".join(line for line in lines if '"component":"mail.log"' not in line)

    return read
