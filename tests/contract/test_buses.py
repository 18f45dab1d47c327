"""What every bus keeps, over each kind of server: nobody hears itself, order within a topic, and no wait anywhere."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contract.buses import KINDS, NAMES, Bus, Buses, made


@pytest.fixture(scope="module", params=NAMES)
async def buses(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Buses]:
    name = str(request.param)
    server = KINDS[name](tmp_path_factory.mktemp(name)) if name in KINDS else None
    started: list[Bus] = []

    async def make(replica: str) -> Bus:
        started.append(await made(server, replica))
        return started[-1]

    try:
        if server is not None:
            await server.start()
        yield Buses(name, make, server)
    finally:
        for bus in started:
            await bus.stop()
        if server is not None:
            await server.kill()


class Heard:
    """What came on a topic; `until` waits for a number of messages."""

    def __init__(self, bus: Bus, topic: str) -> None:
        self.messages: list[bytes] = []
        self._more = asyncio.Event()
        self._bus, self._topic = bus, topic
        bus.listen(topic, self._hear)

    def _hear(self, message: bytes) -> None:
        self.messages.append(message)
        self._more.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                self._more.clear()
                await self._more.wait()
        return self.messages


async def joined(teller: Bus, topic: str, *heard: Heard) -> None:
    """Until what is told on the topic arrives at all: a subscription has no answer that a caller could await."""
    async with asyncio.timeout(10):
        while not all(one.messages for one in heard):
            teller.tell(topic, b"?")
            await asyncio.sleep(0.01)  # told again: hints may be lost before the subscription stands
        teller.tell(topic, b"begin")
        while not all(one.messages[-1] == b"begin" for one in heard):  # noqa: ASYNC110 - the last of the trials
            await asyncio.sleep(0.01)
    for one in heard:
        one.messages.clear()


async def test_others_hear_in_order_and_oneself_does_not(buses: Buses) -> None:
    one, two, three = [await buses.make(name) for name in ("one", "two", "three")]
    own = Heard(one, "user:u1")
    if not buses.joins:
        assert not one.reaches_others
        one.tell("user:u1", b"x")
        assert own.messages == []
        return
    assert one.reaches_others
    others = [Heard(two, "user:u1"), Heard(three, "user:u1")]
    await joined(one, "user:u1", *others)
    told = [b"%d \n{x" % i for i in range(1000)]
    for message in told:
        one.tell("user:u1", message)
    for heard in others:
        assert await heard.until(len(told)) == told
    assert own.messages == []


async def test_a_topic_is_heard_by_those_who_listen_to_it_alone(buses: Buses) -> None:
    one, two = await buses.make("one"), await buses.make("two")
    topics = [f"user:{i}{{x" for i in range(50)] + ["user:ü/ %", "wake"]
    heard = {topic: Heard(two, topic) for topic in topics}
    if not buses.joins:
        return
    for topic in topics:
        await joined(one, topic, heard[topic])
    for topic in topics:
        one.tell(topic, topic.encode())
    one.tell("user:nobody", b"x")
    for topic in topics:
        assert await heard[topic].until(1) == [topic.encode()]


async def test_who_left_hears_no_more_and_may_come_back(buses: Buses) -> None:
    one, two = await buses.make("one"), await buses.make("two")
    first, other = Heard(two, "user:a"), Heard(two, "user:b")
    if not buses.joins:
        return
    await joined(one, "user:a", first)
    await joined(one, "user:b", other)
    for _ in range(20):  # as a page that is loaded again and again
        two.leave("user:a")
        two.listen("user:a", first._hear)
    two.leave("user:a")
    two.leave("user:never")
    one.tell("user:a", b"lost")
    one.tell("user:b", b"kept")
    assert await other.until(1) == [b"kept"]
    assert first.messages == []
    again = Heard(two, "user:a")
    await joined(one, "user:a", again)
    assert two.shown()["status"] == "up"
    assert two.figures()["links"] == 1, "leaving is no fault of the link"


async def test_a_wake_up_that_waits_is_not_told_twice(buses: Buses) -> None:
    one, two = await buses.make("one"), await buses.make("two")
    heard, marks = Heard(two, "wake"), Heard(two, "marks")
    if not buses.joins:
        return
    await joined(one, "wake", heard)
    await joined(one, "marks", marks)
    for _ in range(1000):
        one.tell("wake", b"")
    one.tell("marks", b"after")
    await marks.until(1)
    await heard.until(1)
    assert heard.messages == [b""]
    one.tell("wake", b"")
    assert await heard.until(2) == [b"", b""]


async def test_past_its_bound_it_drops_and_counts(buses: Buses) -> None:
    one = await buses.make("one")
    before = dict(one.figures())
    for _ in range(20_000):
        one.tell("user:u1", b"x" * 100)
    if buses.joins:
        assert one.figures()["waiting"] == 10_000
        assert one.figures()["dropped"] == before["dropped"] + 10_000
        async with asyncio.timeout(20):
            while one.figures()["waiting"]:  # noqa: ASYNC110 - a figure, no signal
                await asyncio.sleep(0.01)
        assert one.shown()["status"] == "up"


async def test_what_cannot_be_read_ends_nothing(buses: Buses) -> None:
    one, two = await buses.make("one"), await buses.make("two")
    if not buses.joins:
        return
    heard = Heard(two, "user:good")
    await joined(one, "user:good", heard)

    def refuse(message: bytes) -> None:
        raise ValueError("not a message of this engine")

    two.listen("user:good", refuse)
    one.tell("user:good", b"bad")
    async with asyncio.timeout(10):
        while not two.figures()["refused"]:  # noqa: ASYNC110 - a figure, no signal
            await asyncio.sleep(0.01)
    two.listen("user:good", heard._hear)
    one.tell("user:good", b"good")
    assert await heard.until(1) == [b"good"]


async def test_ten_thousand_topics_are_not_too_many(buses: Buses) -> None:
    if not buses.joins:
        return
    one, two = await buses.make("one"), await buses.make("two")
    for index in range(10_000):
        two.listen(f"user:{index}", lambda message: None)
    heard = Heard(two, "user:last")
    await joined(one, "user:last", heard)
    assert two.figures()["topics"] == 10_001
