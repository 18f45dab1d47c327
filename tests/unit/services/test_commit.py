"""What follows a group commit: whose the result is, what is handed over, and that no reserved place is lost."""

from collections.abc import Sequence
from typing import Any

import pytest
from tests.unit.builders import a_delivery, a_notification

from notification_engine.domain.errors import InvalidRequest, Unavailable
from notification_engine.domain.notification import Notification
from notification_engine.kit.clock import Clock
from notification_engine.services.commit import Commit
from notification_engine.services.ports import Inserted, KeyTaken

AWAY, ODD = Unavailable("The database did not answer."), InvalidRequest("A value cannot be stored.", field="data")


class Places:
    """A `Handover` with so many places."""

    owner, lease_seconds = "me", 30.0

    def __init__(self, free: int) -> None:
        self.free = free
        self.taken: list[str] = []

    def reserve(self, count: int) -> int:
        granted = min(count, self.free)
        self.free -= granted
        return granted

    def release(self, count: int) -> None:
        self.free += count

    def take(self, notifications: Sequence[Notification]) -> None:
        self.taken += [n.id for n in notifications]


class Told:
    """An `Observer` and a `Live` that keep whom they were told of."""

    def __init__(self) -> None:
        self.accepted_ids: list[str] = []

    def accepted(self, notifications: Sequence[Notification]) -> None:
        self.accepted_ids += [n.id for n in notifications]

    def surfaced(self, notification: Notification) -> None:
        raise AssertionError("nothing here has an inbox")


class Answers:
    """The half of a `NotificationStore` that a commit asks: what is encoded and inserted has the given results."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self.inserts: list[list[str]] = []

    async def encoded(self, requests: Sequence[Sequence[Notification]]) -> list[Any]:
        return [ODD if any(self.results.get(n.id) is ODD for n in r) else [(n.id, b"") for n in r] for r in requests]

    async def insert_each(self, documents: Sequence[tuple[str, bytes]]) -> list[Any]:
        self.inserts.append([document_id for document_id, _ in documents])
        if "all" in self.results:
            raise self.results["all"]
        return [self.results.get(document_id, Inserted()) for document_id, _ in documents]

    async def restamp(self, ids: Sequence[str]) -> None:
        raise AWAY


def due(name: str) -> Notification:
    clock = Clock()
    delivery = a_delivery(next_attempt_at=clock.now())
    return a_notification([delivery], id=name, due_at=clock.now())


def committing(places: Places, told: Told, **results: Any) -> tuple[Commit, Answers]:
    store: Any = Answers(results)
    watching: Any = told
    return Commit(store, Clock(), watching, watching, handover=places, left_due=lambda: None), store


NOW_ON_THE_MONOTONIC_CLOCK = float("inf")  # never too old


async def test_many_requests_are_one_write_and_each_has_its_own_result() -> None:
    places, told = Places(10), Told()
    commit, store = committing(places, told, b=AWAY, c=ODD, e2=KeyTaken())
    requests = [[due("a")], [due("b")], [due("c")], [due("d")], [due("e1"), due("e2")]]
    assert await commit.write(requests, NOW_ON_THE_MONOTONIC_CLOCK) == [Inserted(), AWAY, ODD, Inserted(), KeyTaken()]
    assert store.inserts == [["a", "b", "d", "e1", "e2"]]
    assert told.accepted_ids == ["a", "d"]


async def test_what_is_not_accepted_gives_its_place_back() -> None:
    places = Places(10)
    commit, _ = committing(places, Told(), b=AWAY, c=ODD, d=KeyTaken())
    await commit.write([[due(name)] for name in "abcd"], NOW_ON_THE_MONOTONIC_CLOCK)
    assert (places.taken, places.free) == (["a"], 9)


async def test_past_the_room_it_is_stored_without_a_lease() -> None:
    places = Places(1)
    commit, _ = committing(places, Told())
    first, second = due("a"), due("b")
    await commit.write([[first], [second]], NOW_ON_THE_MONOTONIC_CLOCK)
    assert (first.lease.owner, second.lease.owner) == ("me", None)
    assert places.taken == ["a"]


@pytest.mark.parametrize("results", [{"all": AWAY}, {"all": RuntimeError()}], ids=["refused", "defect"])
async def test_a_write_that_fails_as_a_whole_gives_every_place_back(results: dict[str, Any]) -> None:
    places, told = Places(3), Told()
    commit, _ = committing(places, told, **results)
    with pytest.raises(type(results["all"])):
        await commit.write([[due("a"), due("b")]], NOW_ON_THE_MONOTONIC_CLOCK)
    assert (places.free, places.taken, told.accepted_ids) == (3, [], [])


async def test_a_stamp_that_could_not_be_renewed_gives_every_place_back() -> None:
    """The notifications are stored; their leases expire, and the next claim takes them."""
    places = Places(3)
    commit, _ = committing(places, Told())
    with pytest.raises(Unavailable):
        await commit.write([[due("a")]], started=float("-inf"))
    assert (places.free, places.taken) == (3, [])
