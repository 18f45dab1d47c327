"""E-mail: rendered from a stored template and taken by a SendGrid-compatible receiver, against bare aiohttp posts of
the same bodies; and how soon SES has an e-mail when SendGrid is down.

`python -m bench.email channel|posts URL ADDRESS COUNT` prints e-mails or posts a second; `receiver` alone serves.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from statistics import median
from typing import cast

import aiohttp
import orjson
import uvloop

from bench.http import Framer
from bench.report import Figure
from bench.rounds import in_turns
from bench.servers import API, ENGINE, Bed, Server, bearer, free_port
from notification_engine.channels.email.sendgrid import mail_send
from notification_engine.domain.caller import Caller, Role
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import Priority
from notification_engine.domain.outcome import Accepted, Message
from notification_engine.domain.template import TemplateUse
from notification_engine.kit.ids import new_ulid
from notification_engine.rendering.builtin import builtin_templates
from notification_engine.rendering.plain import Email
from notification_engine.services.ports import Deadline
from notification_engine.settings import Settings
from notification_engine.wiring import Engine

AT_ONCE = 125  # as many as a lane has slots
TEMPLATE = "bench.run"
SENDER, SENDER_NAME = "engine@example.org", "Engine"
DATABASE = "email"
TAKEN = b"HTTP/1.1 202 Accepted\r\nX-Message-Id: sg-1\r\nContent-Length: 0\r\n\r\n"
BY_SES = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{"MessageId": "ses1"}'
SINGLES = 15
OPENED_SECONDS = 20


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    receiver = await _receiver(bed)
    count, rounds = (1000, 3) if quick else (4000, 5)
    found = await in_turns(
        rounds,
        lambda: _per_second("channel", url, receiver, count),
        lambda: _per_second("posts", url, receiver, count),
    )
    first, opened = await _failover(bed, url)
    return [
        Figure(
            "e-mails, rendered and taken",
            found.a,
            "e-mails/s",
            "bare aiohttp posts, same bodies and receiver",
            found.b,
            found.ratio,
            least=0.3,
            aim=0.3,
        ),
        Figure("failover to SES, the first e-mail", 1000 * first, "ms", aim=1000, up=False),
        Figure("failover to SES, breaker open", 1000 * opened, "ms", aim=50, up=False),
    ]


async def _receiver(bed: Bed) -> Server:
    process = await bed._spawn([sys.executable, "-m", "bench.email", "receiver"], {}, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    return Server(process, int(await process.stdout.readline()))


async def _per_second(what: str, url: str, receiver: Server, count: int) -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.email", what, url, receiver.address, str(count)), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(120):
        out, _ = await process.communicate()
    return float(orjson.loads(out.splitlines()[-1]))


async def _failover(bed: Bed, url: str) -> tuple[float, float]:
    """Seconds from the request to its e-mail at SES: of the very first one, whose provider is found to be down; and the
    median once the breaker is open."""
    taken = Taken()
    server = await asyncio.get_running_loop().create_server(lambda: _Answering(BY_SES, taken.note), "127.0.0.1", 0)
    settings = {
        "MONGODB_URL": url,
        "MONGODB_DATABASE": "failover",
        "SENDGRID_API_KEY": "SG.bench",
        "SENDGRID_FROM_EMAIL": SENDER,
        "SENDGRID_BASE_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "SES_FROM_EMAIL": SENDER,
        "SES_ENDPOINT_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}",
        "SES_MAX_PER_SECOND": "0",
    }
    engine = await bed._answering([ENGINE, "serve"], settings)
    async with aiohttp.ClientSession(engine.address, headers=bearer()) as session:
        first = await _until_taken(session, taken)
        await asyncio.gather(*(_send(session) for _ in range(40)))
        await _until_open(session)
        opened = [await _until_taken(session, taken) for _ in range(SINGLES)]
    server.close()
    return first, median(opened)


class Taken:
    def __init__(self) -> None:
        self.count = 0
        self.changed = asyncio.Event()

    def note(self) -> None:
        self.count += 1
        self.changed.set()


async def _until_taken(session: aiohttp.ClientSession, taken: Taken) -> float:
    async with asyncio.timeout(30):
        taken.changed.clear()
        began = time.perf_counter()
        sending = asyncio.create_task(_send(session))
        await taken.changed.wait()
        seconds = time.perf_counter() - began
        await sending
    return seconds


async def _send(session: aiohttp.ClientSession) -> None:
    body = {
        "notification_type": "bench.failover",
        "recipients": [{"user_id": "u1", "email": "u1@example.org"}],
        "title": "Run 4711 passed",
        "body": "148 of 148 tests passed.",
        "channels": ["email"],
    }
    async with session.post(API, json=body) as answer:
        answer.raise_for_status()
        await answer.read()


async def _until_open(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(OPENED_SECONDS):
        while True:
            async with session.get(f"{API}/health/channels") as answer:
                if (await answer.json())["email"]["breakers"]["sendgrid"]["state"] == "open":
                    return
            await asyncio.sleep(0.05)


class _Answering(asyncio.Protocol):
    def __init__(self, answer: bytes, note: Callable[[], None] = lambda: None) -> None:
        self._answer = answer
        self._note = note
        self._framer = Framer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if heads := self._framer.feed(data):
            self._note()
            self._transport.write(self._answer * len(heads))


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Answering(TAKEN), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


def _message(index: int) -> Message:
    ulid = new_ulid()
    return Message(
        notification_id=f"ntfy_{ulid}",
        delivery_id=f"dlv_{ulid}_0",
        event_id=f"evt_{ulid}",
        user_id=f"user-{index:06d}",
        notification_type="test_execution.completed",
        channel=Channel.EMAIL,
        priority=Priority.MEDIUM,
        title=f"Run {index} completed",
        body="148 of 148 tests passed.",
        created_at=datetime.now(UTC),
        endpoint=f"user-{index:06d}@example.org",
        data={
            "url": f"https://app.example.org/runs/{index}",
            "run": {"id": index, "name": "Checkout regression", "environment": "staging", "branch": "main"},
            "tests": {"total": 148, "passed": 148, "failed": 0, "skipped": 0},
        },
        template=TemplateUse(TEMPLATE, 1),
    )


async def _engine(url: str, address: str) -> Engine:
    """The parts of an engine, its loops not started, with the template published."""
    engine = Engine(
        Settings(
            ENVIRONMENT="development",
            JWT_SECRET_KEY="a secret of the bench, 32 bytes or more",
            MONGODB_DATABASE=DATABASE,
            EMAIL_PROVIDER="sendgrid",
            SENDGRID_API_KEY="SG.bench",
            SENDGRID_FROM_EMAIL=SENDER,
            SENDGRID_FROM_NAME=SENDER_NAME,
            SENDGRID_BASE_URL=address,
        ),
        url,
    )
    if await engine.templates.current(TEMPLATE) is None:
        caller = Caller("bench", frozenset({Role.OPERATOR}), time.time() + 60)
        await engine.templates.save(caller, TEMPLATE, builtin_templates()["test_execution.completed"])
        await engine.templates.publish(caller, TEMPLATE, None)
    return engine


async def _each(items: Iterator[object], one: Callable[..., Awaitable[None]], count: int) -> float:
    """`count` calls, as many at once as a lane has slots; calls a second."""

    async def worker() -> None:
        for item in items:
            await one(item)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - began)


async def _channel(url: str, address: str, count: int) -> float:
    engine = await _engine(url, address)

    async def send(message: Message) -> None:
        outcome = await engine.email.send(message, Deadline(time.monotonic() + 30))
        if not isinstance(outcome, Accepted):
            raise RuntimeError(f"{outcome}")

    await _each(iter([_message(i) for i in range(200)]), send, 200)  # connections and children, as in a running engine
    found = await _each(iter([_message(i) for i in range(count)]), send, count)
    await engine.stop()
    return found


async def _posts(url: str, address: str, count: int) -> float:
    engine = await _engine(url, address)
    emails = await asyncio.gather(*(engine.email._render(_message(i)) for i in range(count)))
    await engine.stop()
    bodies = [orjson.dumps(mail_send(email, SENDER, SENDER_NAME)) for email in emails if isinstance(email, Email)]
    assert len(bodies) == count
    headers = {"Authorization": "Bearer SG.bench", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post(body: bytes) -> None:
            async with session.post(f"{address}/v3/mail/send", data=body, headers=headers) as answer:
                await answer.read()
                answer.raise_for_status()

        await _each(iter(bodies[:200]), post, 200)
        return await _each(iter(bodies), post, count)


def main(what: str, *given: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if what == "receiver":
            runner.run(_serve())
            return
        url, address, count = given
        print(runner.run({"channel": _channel, "posts": _posts}[what](url, address, int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
