"""Reasons not to send: the choices of a user, the addresses that are suppressed."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from notification_engine.domain.caller import Caller
from notification_engine.domain.delivery import Channel
from notification_engine.domain.preference import Preference
from notification_engine.domain.suppression import Suppression, SuppressionReason
from notification_engine.services.ports.paging import Page


class PreferenceStore(Protocol):
    async def get(self, user_id: str) -> Preference: ...
    async def get_many(self, user_ids: Sequence[str]) -> list[Preference]:
        """In their order."""
        ...

    async def put(self, caller: Caller, preference: Preference) -> Preference: ...
    async def switch_off(
        self, user_id: str, notification_type: str, channel: Channel, *, said_at: datetime | None = None
    ) -> bool:
        """In the user's name, audited, and beside all other choices. False: nothing changed, because it is off already
        or a choice later than `said_at` stands."""
        ...


@dataclass(frozen=True, slots=True)
class SuppressionFilter:
    channel: Channel | None = None
    reason: SuppressionReason | None = None
    address: str | None = None


class SuppressionStore(Protocol):
    async def find(self, channel: Channel, address: str) -> Suppression | None:
        """Batched; for each send."""
        ...

    async def report(self, suppressions: Sequence[Suppression]) -> None:
        """From feedback: adds, or lets a weightier reason take the place of a lighter one."""
        ...

    async def add(self, caller: Caller, suppression: Suppression) -> Suppression:
        """Audited. Raises Conflict when the address is on the list."""
        ...

    async def add_many(self, caller: Caller, suppressions: Sequence[Suppression]) -> int:
        """Audited as one; how many are new. What is on the list stays as it is."""
        ...

    async def get(self, suppression_id: str) -> Suppression: ...
    async def remove(self, caller: Caller, suppression_id: str) -> None: ...
    async def page(self, query: SuppressionFilter, cursor: str | None, limit: int) -> Page: ...
    def export(self, caller: Caller) -> AsyncIterator[Sequence[Suppression]]:
        """All, in batches, oldest id first; audited before the first."""
        ...
