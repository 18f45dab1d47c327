from collections.abc import AsyncIterator

import pytest
from tests.servers.sendgrid import SendGrid
from tests.servers.ses import Ses


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGrid]:
    server = SendGrid()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
async def ses_server() -> AsyncIterator[Ses]:
    server = Ses()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def ses(ses_server: Ses) -> Ses:
    """An empty account with our sender verified."""
    await ses_server.reset()
    await ses_server.verify("engine@example.org")
    return ses_server
