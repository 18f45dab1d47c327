"""Logs as in production: unconfigured, each traceback is drawn with every local, which takes longer than a probe."""

import pytest

from notification_engine.kit.logging import configure_logging


@pytest.fixture(scope="session", autouse=True)
def _logged() -> None:
    configure_logging("INFO", "json")
