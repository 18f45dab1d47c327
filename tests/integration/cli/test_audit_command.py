"""`audit verify` and `audit export`, as a person starts them."""

import asyncio
from collections.abc import Callable

from tests.integration.cli.conftest import Ended
from tests.integration.conftest import FAST, Running, message


async def test_the_command_names_the_altered_row(running: Running, mongod: str, invoke: Callable[..., Ended]) -> None:
    for number in range(3):
        await running.accept(message("u1"))
        await running.register(f"http://127.0.0.1:9/{number}")
    given = {
        "MONGODB_URL": mongod,
        "MONGODB_DATABASE": running.engine.database.name,
        "JWT_SECRET_KEY": FAST["JWT_SECRET_KEY"],
    }

    async def run(*arguments: str) -> Ended:
        return await asyncio.to_thread(invoke, "audit", *arguments, **given)

    good = await run("verify")
    assert (good.code, good.out.startswith("3 rows hold; head ")) == (0, True), good
    head = good.out.strip().partition("head ")[2]
    assert (await run("verify", "--head", head)).code == 0
    assert len((await run("export")).out.splitlines()) == 3
    assert (await run("verify", "--head", "yesterday")).code == 2
    collection = running.engine.database.collection("notification_audit_logs")
    await collection.update_one({"seq": 2}, {"$set": {"target": "whk_other"}})
    bad = await run("verify")
    assert bad.code == 1
    assert "row 2 " in bad.err
    assert "altered" in bad.err
