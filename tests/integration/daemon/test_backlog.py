"""A backlog larger than the bound of a process."""

from tests.integration.conftest import Start, message
from tests.servers.smtp import Mailbox

from notification_engine.wiring import EngineRole


async def test_a_full_process_goes_on_sweeping_as_soon_as_it_has_room(start: Start, mailbox: Mailbox) -> None:
    accepting = await start(EngineRole.API)
    for index in range(12):
        await accepting.accept(message(f"u{index}", channels=["email"]))
    await start(NOTIFICATION_QUEUE_SIZE=4, SWEEP_INTERVAL_SECONDS=3600)  # its start is its only sweep by the clock
    await mailbox.received(12)
