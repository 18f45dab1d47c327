"""Data protection: what is stored of a user is told, and erased, over every collection that holds something of one.

Invariant: an erasure stands in the list outside the database before anything is removed; what is open is fenced before
its documents go; notifications go last of what is found through them. Each step is harmless when repeated, so an
erasure that died half-way is completed by the next, or from the list. Who comes back afterwards is a user like any
other.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from notification_engine.domain.caller import Caller, Role
from notification_engine.kit.clock import Clock
from notification_engine.kit.ids import new_id
from notification_engine.kit.logging import get_logger
from notification_engine.kit.origin import Origin, current_origin
from notification_engine.services.departed import Departed
from notification_engine.services.ports import AuditStore, PersonalData

ENGINE = Caller("notification-engine", frozenset({Role.ADMIN}), 0.0)
log = get_logger("data-protection")


class Pseudonyms(Protocol):
    def of(self, user_id: str) -> str: ...


class OpenWork(Protocol):
    async def halt(self, user_id: str) -> int:
        """Ends every delivery that is not sent, under a raised fence; how many documents a lane held."""
        ...


class ErasureStore(Protocol):
    async def begin(self, receipt: str, subject: str, user_id: str) -> None: ...
    async def sweep(self, *, fresh: bool) -> int: ...
    def user_ids(self) -> AsyncIterator[str]: ...


class ErasureList(Protocol):
    async def write(self, receipt: str, subject: str, state: str, at: datetime) -> None: ...


@dataclass(frozen=True, slots=True)
class Erased:
    """`in_flight`: notifications that a lane held; what of them is on the wire arrives. `listed`: a restore repeats
    it."""

    receipt: str
    subject: str
    erased_at: datetime
    removed: Mapping[str, int]
    in_flight: int
    listed: bool


class DataProtection:
    def __init__(
        self,
        collections: Sequence[PersonalData],
        work: OpenWork,
        erasures: ErasureStore,
        audit: AuditStore,
        pseudonyms: Pseudonyms,
        clock: Clock,
        listed: ErasureList | None,
        departed: Departed,
    ) -> None:
        """`collections` in the order in which they are erased. `listed`: the list outside the database. `departed`: the
        lanes of all replicas."""
        self._departed = departed
        self.collections = collections
        self._work = work
        self._erasures = erasures
        self._audit = audit
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._listed = listed

    async def export(self, caller: Caller, user_id: str) -> AsyncIterator[tuple[str, Sequence[dict[str, Any]]]]:
        """Collection by collection; audited before the first."""
        await self._audit.append(caller, "user.export", self._pseudonyms.of(user_id), subject=user_id)
        for collection in self.collections:
            yield collection.collection, await collection.export(user_id)

    async def erase(self, caller: Caller, user_id: str) -> Erased:
        """Raises Unavailable; the same call then completes it."""
        done = await self._erase(caller, user_id, self._listed)
        if not done.listed:
            log.warning("An erasure is in no list: restoring an older backup brings it back", receipt=done.receipt)
        return done

    async def _erase(self, caller: Caller, user_id: str, listed: ErasureList | None) -> Erased:
        receipt, subject = new_id("ers"), self._pseudonyms.of(user_id)
        origin = current_origin()
        if caller.sub == user_id:  # who erases itself is not named by the row that says so
            caller, origin = Caller(subject, caller.roles, caller.expires_at), Origin(None, origin.request_id)
        if listed is not None:
            await listed.write(receipt, subject, "begun", self._clock.now())
        await self._audit.append(caller, "user.erase", subject, after={"receipt": receipt}, origin=origin)
        await self._erasures.begin(receipt, subject, user_id)
        in_flight = await self._work.halt(user_id)
        self._departed.tell(user_id)
        removed = {collection.collection: await collection.erase(user_id) for collection in self.collections}
        removed = {name: count for name, count in removed.items() if count}
        told = {"receipt": receipt, "removed": removed, "in_flight": in_flight}
        await self._audit.append(caller, "user.erased", subject, after=told, origin=origin)
        if listed is not None:
            await listed.write(receipt, subject, "done", self._clock.now())
        return Erased(receipt, subject, self._clock.now(), removed, in_flight, listed is not None)

    async def apply(self, subjects: set[str]) -> int:
        """Erases again whom these pseudonyms stand for, as far as anybody of them is there; how many were. The list is
        left as it is: a new line would have a later restore erase who came back since."""
        found = {user_id async for user_id in self._erasures.user_ids() if self._pseudonyms.of(user_id) in subjects}
        for user_id in sorted(found):
            await self._erase(ENGINE, user_id, None)
        return len(found)
