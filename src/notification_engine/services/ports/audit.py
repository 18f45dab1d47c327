"""Who did what, and what is kept of a user."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from notification_engine.domain.caller import Caller
from notification_engine.kit.origin import Origin
from notification_engine.services.ports.paging import Page


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Every criterion that is given must hold."""

    action: str | None = None
    user_id: str | None = None
    target: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class AuditStore(Protocol):
    """Who did what to what, from where and when; chained, see `domain.audit`."""

    async def append(
        self,
        caller: Caller,
        action: str,
        target: str,
        *,
        subject: str | None = None,
        before: Any = None,
        after: Any = None,
        origin: Origin | None = None,
    ) -> None:
        """`subject`: the user whom it concerns. `before`, `after`: what changed, without secrets."""
        ...

    async def page(self, query: AuditFilter, cursor: str | None, limit: int) -> Page: ...
    def rows(self, query: AuditFilter) -> AsyncIterator[Sequence[dict[str, Any]]]: ...


class PersonalData(Protocol):
    """What one collection holds of a user. `export`: whole documents, without secrets. `erase`: how many documents
    were removed or lost what was personal in them; harmless when repeated."""

    collection: str

    async def export(self, user_id: str) -> list[dict[str, Any]]: ...
    async def erase(self, user_id: str) -> int: ...
