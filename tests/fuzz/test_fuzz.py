"""The fuzzers in their short form, the same at every run."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fuzz import http, sockets
from tests.fuzz.world import USER, ClosedEngine, token, world

from notification_engine.domain.caller import Role

EVERYBODY = token(USER, *Role)
GROWTH = 64 * 1024 * 1024


@pytest.fixture(scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory, mongod: str) -> AsyncIterator[ClosedEngine]:
    async with world(tmp_path_factory.mktemp("fuzz"), mongod) as engine:
        yield engine


@pytest.mark.timeout(300)
async def test_every_request_is_answered_as_the_openapi_document_says(engine: ClosedEngine, tmp_path: Path) -> None:
    """Without the phase `coverage`, which takes 2,000 requests: that is `make fuzz`."""
    tally = await http.fuzz(engine, tmp_path, EVERYBODY, "examples,fuzzing,stateful", seed=None, examples=5)
    assert tally.code == 0, tally.output
    assert tally.cases > 300
    simple = {label for label in http.acceptable(await http.document_of(engine)) if "{" not in label}
    assert tally.never_reached(simple) == set()
    assert engine.defects() == []


@pytest.mark.timeout(300)
async def test_no_websocket_client_breaks_the_engine_or_sees_what_is_not_its_own(engine: ClosedEngine) -> None:
    player = sockets.Player(engine)
    await asyncio.to_thread(sockets.fuzz, player, 500, 1)
    assert player.messages >= 500
    assert player.survived > 5
    assert player.resident[-1] - player.resident[0] < GROWTH


async def test_the_fuzzer_finds_an_undocumented_answer(engine: ClosedEngine, tmp_path: Path) -> None:
    """The proof that it would notice: against a document from which one status was taken away."""
    document = await http.document_of(engine)
    path = "/api/v1/notifications/webhooks/{webhook_id}"
    document["paths"] = {path: {"get": document["paths"][path]["get"]}}
    del document["paths"][path]["get"]["responses"]["404"]
    tally = await http.fuzz(engine, tmp_path, EVERYBODY, "coverage", seed=None, examples=1, document=document)
    assert tally.code == 1
    assert "Undocumented status code" in tally.output
