"""What traces cost: on, with every request sampled, against the same process with traces off; and off, the calls that
stay in the code, as a share of an accept.

The collector is a receiver that answers and reads nothing, so it takes little of the machine; making, batching and
encoding the spans are all the engine's.
"""

import signal
import timeit
from functools import partial

from bench.accept import accepted_per_second
from bench.report import Figure
from bench.rounds import Compared, Measured, in_turns
from bench.servers import Bed
from bench.webhooks import delivered_per_second, register
from notification_engine.kit import tracing

CALLS = 20_000


async def measure(bed: Bed, *, quick: bool) -> list[Figure]:
    url = await bed.mongod()
    collector, receiver = await bed.receiver(), await bed.receiver()
    engine = await bed.altered("bench.switched", url, "traced", OTEL_EXPORTER_OTLP_ENDPOINT=collector.address)
    seconds, count, rounds = (1.5, 1000, 3) if quick else (4.0, 4000, 9)

    async def switched(number: signal.Signals, work: Measured) -> float:
        engine.process.send_signal(number)
        return await work()

    async def compared(work: Measured) -> Compared:
        await switched(signal.SIGUSR2, work)  # connections and caches, as in a running engine
        return await in_turns(rounds, partial(switched, signal.SIGUSR1, work), partial(switched, signal.SIGUSR2, work))

    single = await compared(partial(accepted_per_second, engine, seconds))
    await register(engine, receiver)
    webhooks = await compared(partial(delivered_per_second, engine, url, "traced", count))
    return [
        Figure(
            "single POST, traces on, all sampled",
            single.a,
            "accepted/s",
            "traces off",
            single.b,
            single.ratio,
            single.ratios,
            least=0.9,
        ),
        Figure(
            "webhooks, traces on, all sampled",
            webhooks.a,
            "delivered/s",
            "traces off",
            webhooks.b,
            webhooks.ratio,
            webhooks.ratios,
            least=0.9,
        ),
        Figure("traces off, of an accept", share_of_an_accept(single.b), "%", aim=1.0, up=False),
    ]


def share_of_an_accept(accepted_per_second: float) -> float:
    """Per cent. The calls of an accept and of a webhook's delivery together, so rather too much than too little."""
    seconds = min(timeit.repeat(left_in_the_code, number=CALLS, repeat=5)) / CALLS
    return seconds * accepted_per_second * 100


def left_in_the_code() -> None:
    """What one notification meets of `kit.tracing`, from its request to its settlement."""
    tracing.current_traceparent()
    with tracing.span("write", "client", {"notification.count": 1}):
        pass
    lane: tracing.Attributes = {"id": "ntfy_1", "delivery": "dlv_1", "channel": "webhook", "attempt": 1}
    with tracing.resume("lane", None, lane, since=1):
        with tracing.span("provider call", "client", {"notification.provider": "webhook"}):
            tracing.current_traceparent()
            tracing.note({"outcome": "delivered", "reason": None})
        tracing.note({"status": "delivered", "reason": None})
    for _ in range(3):  # the lines of the log
        tracing.current_trace_id()
