"""The catalogue of notification types: a stored override wins over the built-in type, which wins over plain defaults.

A type that nobody registered is as good as any: in-app, medium, no template.
"""

from dataclasses import replace
from typing import Any

from notification_engine.domain.caller import Caller
from notification_engine.domain.errors import NotFound
from notification_engine.domain.notification_type import NotificationType
from notification_engine.services.builtin_types import BUILTIN_TYPES
from notification_engine.services.ports import Page, TypeStore


class Catalogue:
    def __init__(self, store: TypeStore) -> None:
        self._store = store

    async def resolve(self, name: str) -> NotificationType:
        """What a notification of this type gets, whether anybody registered it or not."""
        overrides = await self._store.overrides()
        return overrides.get(name) or BUILTIN_TYPES.get(name) or NotificationType(name)

    async def get(self, name: str) -> NotificationType:
        """Raises NotFound for what is neither stored nor built in."""
        found = await self.resolve(name)
        if not (found.builtin or found.overridden):
            raise NotFound("There is no such type; notifications of it get the plain defaults.")
        return _marked(found)

    async def retention_days(self) -> dict[str, int]:
        """Of the types that say one."""
        types = BUILTIN_TYPES | dict(await self._store.overrides())
        return {name: t.retention_days for name, t in types.items() if t.retention_days is not None}

    async def page(self, after: str, limit: int) -> Page:
        """Built-in types and stored ones, by name."""
        merged = BUILTIN_TYPES | dict(await self._store.overrides())
        names = sorted(name for name in merged if name > after)
        shown = [_marked(merged[name]) for name in names[:limit]]
        return Page(shown, shown[-1].name if len(names) > limit else None)

    async def put(self, caller: Caller, wanted: NotificationType) -> NotificationType:
        return _marked(await self._store.put(caller, wanted))

    async def change(self, caller: Caller, name: str, values: dict[str, Any]) -> NotificationType:
        """Some fields of a type; what is built in is overridden as a whole. Raises NotFound."""
        return await self.put(caller, replace(await self.get(name), **values))

    async def remove(self, name: str) -> None:
        """The built-in type, or the plain defaults, are in force again. Raises NotFound."""
        if not await self._store.delete(name):
            raise NotFound("There is no such type of the operators' own.")


def _marked(found: NotificationType) -> NotificationType:
    return replace(found, builtin=found.name in BUILTIN_TYPES)
