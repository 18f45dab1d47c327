"""The reference of `webhooks`: one aiohttp session that posts ready-made bodies, as many at once as a lane has slots.

`python -m bench.posts ADDRESS COUNT` prints a `Bare` as JSON.
"""

import asyncio
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

import aiohttp
import orjson
import uvloop

from bench.messages import message
from bench.rounds import Bare
from notification_engine.channels.webhook import payload, signed_headers
from notification_engine.domain.delivery import Channel
from notification_engine.domain.notification import Priority
from notification_engine.domain.outcome import Message
from notification_engine.domain.webhook import WebhookEndpoint
from notification_engine.kit.ids import new_ulid

AT_ONCE = 125
ENDPOINT = WebhookEndpoint("whk_bench", "http://127.0.0.1/hook", ("*",), "whsec_" + "a" * 32)


def _prepared(index: int) -> tuple[bytes, dict[str, str]]:
    asked, ulid = message(index, "webhook"), new_ulid()
    body = payload(
        Message(
            notification_id=f"ntfy_{ulid}",
            delivery_id=f"dlv_{ulid}_0",
            event_id=f"evt_{ulid}",
            user_id=asked["recipients"][0]["user_id"],
            notification_type=asked["notification_type"],
            channel=Channel.WEBHOOK,
            priority=Priority.MEDIUM,
            title=asked["title"],
            body=asked["body"],
            created_at=datetime.now(UTC),
            data=asked["data"],
            correlation_id=asked["correlation_id"],
        )
    )
    return body, signed_headers(ENDPOINT, f"dlv_{ulid}_0", body)


async def _post_all(address: str, count: int) -> Bare:
    prepared = [_prepared(i) for i in range(count)]
    left = iter(prepared)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post() -> None:
            for body, headers in left:
                async with session.post(f"{address}/hook", data=body, headers=headers) as answer:
                    await answer.read()
                    answer.raise_for_status()

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(post() for _ in range(AT_ONCE)))
        return Bare(count / (time.perf_counter() - began), 1e6 * (time.process_time() - cpu) / count)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.buffer.write(orjson.dumps(asdict(runner.run(_post_all(sys.argv[1], int(sys.argv[2]))))))
