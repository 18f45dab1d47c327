"""A real engine that has done everything once of which a metric tells, and its metrics as a scraper reads them."""

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pymongo.errors import PyMongoError
from tests.integration.conftest import API, Running, Start, message
from tests.servers.callbacks import SendGridSigner, sendgrid_event
from tests.servers.receiver import Answer, Receiver


@dataclass(frozen=True)
class Scrape:
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    def names(self) -> set[str]:
        return {sample.name for sample in self.samples}

    def labels(self, name: str) -> set[str]:
        return {label for sample in self.samples if sample.name == name for label in sample.labels}

    def values(self, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if label in sample.labels}

    def value(self, name: str, **labels: str) -> float | None:
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None


def scrape(text: str) -> Scrape:
    families = text_string_to_metric_families(text)
    return Scrape(tuple(sample for family in families for sample in family.samples))


async def scraped(running: Running, path: str = f"{API}/health/metrics") -> Scrape:
    async with running.session.get(running.address + path, headers={"Accept": "text/plain"}) as answer:
        assert answer.status == 200
        return scrape(await answer.text())


async def once(running: Running, met: Callable[[Scrape], bool], seconds: float = 30) -> Scrape:
    """Asked until it is so: figures are measured in the background."""
    async with asyncio.timeout(seconds):
        while not met(found := await scraped(running)):  # noqa: ASYNC110 - it is the answer that changes
            await asyncio.sleep(0.05)
    return found


async def exercised(start: Start, receiver: Receiver) -> Running:
    """Sent on every channel, refused, failed, reported by a provider, swept, looked at by probes and checks."""
    signer = SendGridSigner()
    running = await start(SENDGRID_WEBHOOK_PUBLIC_KEY=signer.public_key, HEALTH_CHECK_INTERVAL=0.2)
    await running.register(f"{receiver.address}/a", "*")
    receiver.answers.extend([Answer(500), Answer(404)])
    for _ in range(2):  # one is tried again, by a sweep
        await running.settled(await running.accept(message(channels=["in_app", "webhook", "email"])))
    body = json.dumps([sendgrid_event(None, "delivered")]).encode()
    url = f"{running.address}{API}/callbacks/sendgrid"
    async with running.session.post(url, data=body, headers=signer.headers(body)) as answer:
        assert answer.status in range(200, 300)
    assert (await running.call("GET", "", as_="nobody"))[0] == 401
    await a_failed_command(running)
    seen = ("check_failing", "claim_candidates_total", "access_denied_total", "provider_events_total")
    await once(running, told(f"notification_{name}" for name in seen))
    return running


async def a_failed_command(running: Running) -> None:
    async with running.engine.database.snapshot() as session:
        with pytest.raises(PyMongoError):
            await running.engine.database.command({"noSuchCommand": 1}, session)


def told(names: Iterable[str]) -> Callable[[Scrape], bool]:
    wanted = set(names)
    return lambda found: wanted <= found.names()
