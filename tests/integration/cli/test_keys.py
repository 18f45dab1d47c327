"""`keys status` and `keys rotate`, as an operator runs them against a database that an engine uses."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.cli.conftest import Ended

from notification_engine.security.envelope import LocalKeys
from notification_engine.storage.connection import Database
from notification_engine.storage.data_keys import PURPOSES, DataKeys

OLD, NEW = "an old master key of 32 bytes or more", "a new master key of 32 bytes or more"
Invoke = Callable[..., Ended]


@pytest.fixture
def given(mongod: str, database: Database) -> dict[str, str]:
    secret = "a secret of the tests, 32 bytes or more"
    return {"MONGODB_URL": mongod, "MONGODB_DATABASE": database.name, "JWT_SECRET_KEY": secret}


async def in_thread(invoke: Invoke, *arguments: str, **environment: str) -> Ended:
    """The command has an event loop of its own."""
    import asyncio

    return await asyncio.to_thread(invoke, *arguments, **environment)


async def test_an_operator_rotates_and_looks(invoke: Invoke, given: dict[str, str], database: Database) -> None:
    none = await in_thread(invoke, "keys", "status", **given)
    assert (none.code, none.out) == (0, "There are no data keys yet; the engine's first start makes them.\n")
    await DataKeys(database, [LocalKeys(OLD)]).open()
    both: dict[str, Any] = given | {"FIELD_ENCRYPTION_KEY": NEW, "FIELD_ENCRYPTION_KEY_PREVIOUS": OLD}
    before = await in_thread(invoke, "keys", "status", **both)
    assert (before.code, before.out.count("needs `keys rotate`")) == (1, len(PURPOSES))
    rotated = await in_thread(invoke, "keys", "rotate", **both)
    assert rotated.code == 0, rotated.err
    assert f"{len(PURPOSES)} of {len(PURPOSES)}" in rotated.out
    again = await in_thread(invoke, "keys", "rotate", **both)
    assert f"0 of {len(PURPOSES)}" in again.out
    after = await in_thread(invoke, "keys", "status", **(given | {"FIELD_ENCRYPTION_KEY": NEW}))
    assert (after.code, after.out.count("current")) == (0, len(PURPOSES))
    assert not any(secret in after.out + before.out + rotated.out for secret in (OLD, NEW))


async def test_a_key_that_opens_nothing_is_refused_by_its_name(
    invoke: Invoke, given: dict[str, str], database: Database
) -> None:
    await DataKeys(database, [LocalKeys(OLD)]).open()
    refused = await in_thread(invoke, "keys", "rotate", **(given | {"FIELD_ENCRYPTION_KEY": NEW}))
    assert refused.code == 2
    assert refused.err.startswith("FIELD_ENCRYPTION_KEY: ")
