"""The doctor, asked within this process, against servers of the test's own."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.canaries import canary
from typer.testing import CliRunner

from notification_engine.cli.main import app
from notification_engine.settings import SECRETS as SECRET_SETTINGS
from notification_engine.settings import Settings
from notification_engine.storage.connection import Database

Report = dict[str, dict[str, str]]
Ask = Callable[..., Awaitable[tuple[int, Report]]]
SECRETS = {"JWT_SECRET_KEY": canary("doctor-signing-key"), "FIELD_ENCRYPTION_KEY": canary("doctor-master-key")}


@pytest.fixture
def given(mongod: str, database: Database) -> dict[str, str]:
    """Production as it should be, but for the number of members."""
    return {"MONGODB_URL": mongod, "MONGODB_DATABASE": database.name, "ENVIRONMENT": "production", **SECRETS}


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> Ask:
    """The exit code, and each finding by its check. What is given as None is left out."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name, raising=False)

    async def ask(**changed: Any) -> tuple[int, Report]:
        environment = {name: value for name, value in (given | changed).items() if value is not None}
        # The command has an event loop of its own.
        result = await asyncio.to_thread(CliRunner().invoke, app, ["doctor", "--json"], env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        for name in environment.keys() & SECRET_SETTINGS:
            assert environment[name] not in result.stdout, name
        return result.exit_code, {finding["check"]: finding for finding in json.loads(result.stdout)}

    return ask
