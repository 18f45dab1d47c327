import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector
from tests.integration.replicas.fleet import Fleet

from notification_engine.storage.connection import Database


@pytest.fixture
async def fleet(mongod: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    name = f"fleet_{uuid.uuid4().hex[:12]}"
    settings = {"MONGODB_URL": mongod, "MONGODB_DATABASE": name}
    # A balancer before the fleet has a certificate of its own making.
    async with ClientSession(connector=TCPConnector(limit=0, ssl=False)) as session:
        made = Fleet(tmp_path, settings, session)
        yield made
        await made.stop()
    database = Database(mongod, name, pool_size=1)
    await database.drop()
    await database.close()
