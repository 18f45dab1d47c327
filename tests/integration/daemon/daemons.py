"""A delivery daemon without HTTP: its dispatcher and sweeper over real stores, with channels that a test scripts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.integration.storage.stores import LEASE, Stores, notifications_of
from tests.sealers import sealer

from notification_engine.daemon.dispatcher import Dispatcher
from notification_engine.daemon.sweeper import Sweeper
from notification_engine.domain.delivery import Channel
from notification_engine.domain.outcome import Accepted, Delivered, Message, Outcome
from notification_engine.domain.retry import RetryPolicy
from notification_engine.health.metrics import Metrics
from notification_engine.realtime.hub import Hub
from notification_engine.services.endpoint_watch import EndpointWatch
from notification_engine.services.ports import Deadline
from notification_engine.services.send import Send
from notification_engine.services.settle import Settle
from notification_engine.storage.audit import AuditLog
from notification_engine.storage.endpoints import Endpoints
from notification_engine.storage.suppressions import Suppressions

Answer = Callable[[Message], Awaitable[Outcome]]


class Scripted:
    """A channel that keeps what it was given and answers what the test says; `began` is set at every call."""

    def __init__(self, name: Channel, *, repeatable: bool) -> None:
        self.name = name
        self.repeatable = repeatable
        self.attempt_seconds = 20.0
        self.calls: list[Message] = []
        self.began = asyncio.Event()
        self.answer: Answer = self._taken

    async def send(self, message: Message, deadline: Deadline) -> Outcome:
        self.calls.append(message)
        self.began.set()
        return await self.answer(message)

    def host(self, message: Message) -> str:
        return ""

    async def _taken(self, message: Message) -> Outcome:
        return Delivered("scripted") if self.repeatable else Accepted("scripted")


async def never(message: Message) -> Outcome:
    """The answer of a process that dies before it has one."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Daemon:
    stores: Stores
    channels: Mapping[Channel, Scripted]
    send: Send
    settle: Settle
    dispatcher: Dispatcher
    sweeper: Sweeper
    metrics: Metrics

    @property
    def webhook(self) -> Scripted:
        return self.channels[Channel.WEBHOOK]

    @property
    def email(self) -> Scripted:
        return self.channels[Channel.EMAIL]

    async def idle(self, seconds: float = 20) -> None:
        """Until nothing that this daemon holds is unsettled."""
        async with asyncio.timeout(seconds):
            while True:
                if not self.dispatcher.snapshot()["leases_held"]:
                    return
                await asyncio.sleep(0.005)  # asked again: the dispatcher has no signal for it

    async def sweep(self) -> None:
        """One sweep, and everything it claimed settled."""
        await self.sweeper.run_once()
        await self.idle()

    async def die(self) -> None:
        """As SIGKILL would: nothing is settled any more. The database knows nothing of it; its leases run on."""
        lanes = self.dispatcher.lanes.values()
        tasks = {*self.dispatcher._resuming, *(task for lane in lanes for task in lane._tasks)}
        for lane in lanes:
            lane.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def untold(*_: Any) -> Any:
    raise AssertionError("no endpoint is disabled here")


def a_daemon(stores: Stores, owner: str = "one", **changes: Any) -> Daemon:
    values: dict[str, Any] = {"lane_bound": 50, "queue_size": 1000, "lease_seconds": LEASE, "processing_timeout": 300.0}
    values |= changes
    store = notifications_of(stores.database, stores.clock)
    endpoints = Endpoints(stores.database, sealer())
    metrics, policy = Metrics(), RetryPolicy(3, 0.01)
    settle = Settle(
        store,
        stores.history,
        stores.clock,
        metrics,
        Hub(10),
        dict.fromkeys(Channel, policy),
        lease_seconds=values["lease_seconds"],
        max_waiting=10_000,
    )
    channels = {c: Scripted(c, repeatable=c is not Channel.EMAIL) for c in Channel}
    send = Send(
        channels,
        settle,
        store,
        stores.history,
        EndpointWatch(endpoints, stores.clock, untold),
        Suppressions(stores.database, AuditLog(stores.database)),
        stores.clock,
        patience_seconds=values["lease_seconds"],
    )
    dispatcher = Dispatcher(store, send, settle, list(Channel), stores.clock, owner=owner, **values)
    sweeper = Sweeper(store, dispatcher, interval_seconds=3600, batch_size=50)
    return Daemon(stores, channels, send, settle, dispatcher, sweeper, metrics)
