"""A world: a cluster, a database of its own, engines, receivers, a ledger and a load, all ended together."""

import random
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import ReadPreference
from pymongo.read_concern import ReadConcern
from tests.chaos.cluster import Cluster, cluster
from tests.chaos.engines import EngineProcess, Engines
from tests.chaos.ledger import Db, Ledger, Row, verdict
from tests.chaos.load import Load
from tests.chaos.mail import MailAnswer, Step
from tests.chaos.receivers import Answer, Receivers
from tests.chaos.relays import SendGrid, Ses


@dataclass
class World:
    cluster: Cluster
    database: str
    db: Db  # majority reads from the primary
    engines: Engines
    receivers: Receivers
    ledger: Ledger
    load: Load
    random: random.Random
    directory: Path
    sendgrid: SendGrid
    ses: Ses

    @property
    def engine(self) -> EngineProcess:
        return self.engines[0]

    async def register(self, name: str, *types: str) -> dict[str, Any]:
        """A webhook endpoint at the receiver's `name`."""
        return await self.load.register(self.receivers.webhook_url(name), *types)

    def slow_receivers(self, seconds: float) -> None:
        """Every receiver takes so long to say yes, so that there is always something on the wire."""
        for index in range(10):
            self.receivers.script(f"hook-{index}", Answer(delay_seconds=seconds))
        for index in range(self.load.users):
            self.receivers.mail.script(f"u{index}", MailAnswer(Step.TAKEN, "250 2.0.0 taken", delay_seconds=seconds))

    async def verdict(self, fault: str, **options: Any) -> Row:
        return await verdict(fault, self.ledger, self.receivers.receipts, self.db, **options)


@asynccontextmanager
async def world(
    shared: Cluster | None = None,
    *,
    engines: int = 1,
    members: int = 3,
    seed: int = 0,
    broken: str | None = None,
    webhooks: int = 1,
    url: str | None = None,
    **settings: Any,
) -> AsyncIterator[World]:
    """On `shared` or on a cluster of its own; settings by name go to every engine; `url` replaces the database's."""
    async with AsyncExitStack() as stack:
        replica_set = shared or await stack.enter_async_context(cluster(members))
        directory = Path(tempfile.mkdtemp(prefix="chaos-world-"))
        stack.callback(shutil.rmtree, directory)
        receivers = Receivers()
        await receivers.start()
        stack.push_async_callback(receivers.stop)
        sendgrid, ses = SendGrid(receivers.ledger), Ses(receivers.ledger)
        for provider in (sendgrid, ses):
            await provider.start()
            stack.push_async_callback(provider.stop)
        name = f"chaos_{uuid.uuid4().hex[:12]}"
        given = {"MONGODB_URL": url or replica_set.url, "MONGODB_DATABASE": name, "SMTP_PORT": receivers.smtp_port}
        given |= {"SENDGRID_BASE_URL": sendgrid.address, "SES_ENDPOINT_URL": ses.address}
        processes = Engines(directory, given | settings, broken=broken)
        stack.push_async_callback(processes.stop)
        for _ in range(engines):
            await processes.add()
        ledger = Ledger()
        load = await stack.enter_async_context(Load([e.address for e in processes.all], ledger, seed))
        db = replica_set.client.get_database(
            name, read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
        )
        chance = random.Random(seed)
        made = World(replica_set, name, db, processes, receivers, ledger, load, chance, directory, sendgrid, ses)
        for index in range(webhooks):
            await made.register(f"hook-{index}")
        try:
            yield made
        except BaseException:
            print(processes.tail())
            raise
        await replica_set.client.drop_database(name)
