"""Wake-ups and cache invalidation over a bus of two replicas in one process."""

import asyncio
from collections.abc import Callable

import pytest

from notification_engine.realtime.invalidation import Invalidation
from notification_engine.realtime.local_bus import LocalBus
from notification_engine.realtime.wake import Spaced, Wake


class Exchange:
    """Hands what one replica tells to all others at once."""

    def __init__(self) -> None:
        self.buses: list[PairBus] = []

    def bus(self) -> "PairBus":
        self.buses.append(PairBus(self))
        return self.buses[-1]


class PairBus:
    reaches_others = True

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.hears: dict[str, Callable[[bytes], None]] = {}
        self.told: list[tuple[str, bytes]] = []

    def tell(self, topic: str, message: bytes) -> None:
        self.told.append((topic, message))
        for other in self._exchange.buses:
            if other is not self and topic in other.hears:
                other.hears[topic](message)

    def listen(self, topic: str, hear: Callable[[bytes], None]) -> None:
        self.hears[topic] = hear

    def leave(self, topic: str) -> None:
        self.hears.pop(topic, None)


class FakeCache:
    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.on_change: Callable[[str], None] = lambda key: None

    def forget(self, key: str) -> None:
        self.forgotten.append(key)


def test_a_change_is_forgotten_by_the_others_and_by_that_cache_alone() -> None:
    exchange = Exchange()
    replicas = [Invalidation(exchange.bus()) for _ in range(3)]
    caches = [(FakeCache(), FakeCache()) for _ in replicas]
    for replica, (first, second) in zip(replicas, caches, strict=True):
        replica.join("first", first)
        replica.join("second", second)
    caches[0][0].on_change("a key with  spaces ü")
    assert [c[0].forgotten for c in caches] == [[], ["a key with  spaces ü"], ["a key with  spaces ü"]]
    assert [c[1].forgotten for c in caches] == [[], [], []]


def test_a_cache_of_a_newer_version_is_no_error() -> None:
    exchange = Exchange()
    newer, older = Invalidation(exchange.bus()), Invalidation(exchange.bus())
    cache, unknown = FakeCache(), FakeCache()
    newer.join("unknown", unknown)
    older.join("known", cache)
    unknown.on_change("x")
    assert cache.forgotten == []


async def test_a_burst_of_wake_ups_is_two_calls() -> None:
    calls, again = 0, asyncio.Event()

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            again.set()

    spaced = Spaced(call, 0.01)
    for _ in range(100):
        spaced()
    assert calls == 1, "the first at once"
    await asyncio.wait_for(again.wait(), 5)
    assert calls == 2, "and one for all the rest"


async def test_what_is_due_wakes_here_and_elsewhere_and_does_not_echo() -> None:
    exchange = Exchange()
    woken = {"one": 0, "two": 0, "api": 0}

    def sweep(name: str) -> Callable[[], None]:
        def count() -> None:
            woken[name] += 1

        return count

    buses = {name: exchange.bus() for name in woken}
    wakes = {name: Wake(bus, sweep(name)) for name, bus in buses.items()}
    wakes["one"].listen()
    wakes["two"].listen()
    wakes["one"].due()
    assert woken == {"one": 1, "two": 1, "api": 0}
    assert buses["two"].told == [], "who is woken wakes nobody"


@pytest.mark.parametrize("bus", [LocalBus()])
async def test_alone_only_the_own_sweeper_is_woken(bus: LocalBus) -> None:
    woken = []
    Wake(bus, lambda: woken.append(1)).due()
    assert woken == [1]
