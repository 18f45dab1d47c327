"""Templates: what operators save, preview and publish, and which version a notification is rendered with.

Invariant: what is sent was compiled at publish, and a notification keeps the version that it was accepted with. A
published version of the operators' own wins over the template of the same key that comes with the engine.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from notification_engine.domain.caller import Caller
from notification_engine.domain.errors import InvalidRequest, NotFound
from notification_engine.domain.template import (
    BUILTIN_VERSION,
    MAX_LIBRARY,
    Compiled,
    Draft,
    Preview,
    Template,
    TemplateKind,
    Version,
)
from notification_engine.kit.clock import wall_now
from notification_engine.services.ports import Page, Renderer, TemplateStore


class Templates:
    def __init__(self, store: TemplateStore, renderer: Renderer, builtin: Mapping[str, Draft]) -> None:
        self._store = store
        self._renderer = renderer
        self._builtin = builtin
        self._compiled: dict[str, asyncio.Task[Compiled]] = {}

    async def current(self, key: str) -> Version | None:
        """The version that is sent now; None for what has none, or is no message."""
        head = await self._store.head(key)
        if head is not None and head.published is not None:
            found = await self._store.version(key, head.published)
        else:
            found = await self._builtin_version(key)
        return found if found is not None and found.draft.kind is TemplateKind.MESSAGE else None

    async def version(self, key: str, number: int) -> Version | None:
        if number == BUILTIN_VERSION:
            return await self._builtin_version(key)
        return await self._store.version(key, number)

    async def get(self, key: str) -> Template:
        """The operators' own, else the one that comes with the engine. Raises NotFound."""
        if (head := await self._store.head(key, fresh=True)) is not None:
            return head
        if key in self._builtin:
            return Template(key, self._builtin[key], BUILTIN_VERSION, builtin=True)
        raise NotFound("There is no such template.")

    async def versions(self, key: str) -> list[Version]:
        await self.get(key)
        return await self._store.versions(key)

    async def page(self, after: str, limit: int) -> Page:
        """By key; a built-in template that has been overridden stands there once, as overridden."""
        own = await self._store.list(after, limit + 1)
        keys = {head.key for head in own}
        more = [Template(k, d, BUILTIN_VERSION, builtin=True) for k, d in self._builtin.items() if k > after]
        merged = sorted(own + [t for t in more if t.key not in keys], key=lambda t: t.key)
        if len(own) > limit:  # what lies beyond the page of the store may hide more overrides
            merged = [t for t in merged if t.key <= own[-1].key]
        shown = merged[:limit]
        return Page(shown, shown[-1].key if len(merged) > limit else None)

    async def save(self, caller: Caller, key: str, draft: Draft) -> Template:
        """The draft, after it was compiled and rendered with its sample data. Raises InvalidRequest."""
        await self._tried(key, draft)
        return await self._store.save(caller, key, draft)

    async def publish(self, caller: Caller, key: str, number: int | None) -> Version:
        """The draft as a new version; with `number`, an earlier version again.

        Raises NotFound, InvalidRequest, Conflict."""
        head = await self._store.head(key, fresh=True)
        if head is None:
            raise NotFound("There is no such template; save it first.")
        if number is not None:
            earlier = await self._store.version(key, number)
            if earlier is None:
                raise InvalidRequest("There is no such version.", field="version")
            await self._store.choose(key, number)
            return earlier
        compiled, uses = await self._tried(key, head.draft)
        version = Version(key, head.latest + 1, head.draft, compiled, uses, wall_now(), caller.sub)
        await self._store.publish(version)
        return version

    async def preview(
        self, key: str, draft: Draft | None, data: Mapping[str, Any], locale: str | None, time_zone: str | None
    ) -> Preview:
        """Of the given draft, else of the saved one. Publishes and stores nothing. Raises NotFound, InvalidRequest."""
        shown = draft or (await self.get(key)).draft
        if shown.kind is not TemplateKind.MESSAGE:
            raise InvalidRequest("A partial is not rendered by itself.", field="kind")
        compiled = await self._renderer.compile(shown, (await self._library(shown))[0])
        return await self._renderer.preview(f"{key}:preview", compiled, {**sample_context(), **data}, locale, time_zone)

    async def remove(self, key: str) -> None:
        """What was accepted keeps its version; a built-in template of the key is in force again."""
        if not await self._store.delete(key):
            raise NotFound("There is no such template." if key not in self._builtin else "It is not overridden.")

    async def _tried(self, key: str, draft: Draft) -> tuple[Compiled, dict[str, int]]:
        library, uses = await self._library(draft)
        if key in library:
            raise InvalidRequest(f"a circle of templates: {key} → {key}", field="locales")
        compiled = await self._renderer.compile(draft, library)
        for locale in compiled.locales:
            context = {**sample_context(), **draft.sample_data}
            await self._renderer.preview(f"{key}:draft", compiled, context, locale, None)
        return compiled, uses

    async def _library(self, draft: Draft) -> tuple[dict[str, Draft], dict[str, int]]:
        """What it draws in, directly or not, as published."""
        library: dict[str, Draft] = {}
        uses: dict[str, int] = {}
        waiting = sorted(draft.references())
        while waiting:
            key = waiting.pop()
            if key in library or (found := await self._published(key)) is None:
                continue
            if len(library) == MAX_LIBRARY:
                raise InvalidRequest(f"it draws in more than {MAX_LIBRARY} templates", field="locales")
            library[key], uses[key] = found
            waiting += sorted(library[key].references())
        return library, uses

    async def _published(self, key: str) -> tuple[Draft, int] | None:
        head = await self._store.head(key, fresh=True)
        if head is not None and head.published is not None:
            version = await self._store.version(key, head.published)
            return (version.draft, version.number) if version else None
        return (self._builtin[key], BUILTIN_VERSION) if key in self._builtin else None

    async def _builtin_version(self, key: str) -> Version | None:
        """Compiled at its first use, once."""
        draft = self._builtin.get(key)
        if draft is None:
            return None
        if key not in self._compiled:
            references = {k: d for k, d in self._builtin.items() if d.kind is TemplateKind.PARTIAL}
            self._compiled[key] = asyncio.create_task(self._renderer.compile(draft, references))
        task = self._compiled[key]
        try:
            return Version(key, BUILTIN_VERSION, draft, await asyncio.shield(task))
        except Exception:
            self._compiled.pop(key, None)
            raise


def sample_context() -> dict[str, Any]:
    """What the engine adds to the data, for previews."""
    return context(
        {},
        notification={
            "id": "ntfy_sample",
            "type": "sample.type",
            "priority": "medium",
            "created_at": wall_now(),
            "actions": [],
            "correlation_id": "sample",
        },
        recipient={"user_id": "sample", "email": "sample@example.org", "locale": None},
    )


def context(
    data: Mapping[str, Any], *, notification: Mapping[str, Any], recipient: Mapping[str, Any]
) -> dict[str, Any]:
    """The data at the top, and two names of the engine's own. Times are ISO texts, which the filters read."""
    told = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in notification.items()}
    return {**data, "notification": told, "recipient": dict(recipient)}
