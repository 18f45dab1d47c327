"""What notifications say: their types, their templates, and who renders these."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from notification_engine.domain.caller import Caller
from notification_engine.domain.notification_type import NotificationType
from notification_engine.domain.template import Compiled, Draft, Preview, RenderFailed, Template, Version


class TypeStore(Protocol):
    """What operators changed about types, beside the catalogue in the code."""

    async def overrides(self) -> Mapping[str, NotificationType]:
        """All of them, kept for a few seconds."""
        ...

    async def put(self, caller: Caller, changed: NotificationType) -> NotificationType: ...
    async def delete(self, name: str) -> bool: ...


class TemplateStore(Protocol):
    """Heads are kept for a few seconds, versions never change."""

    async def head(self, key: str, *, fresh: bool = False) -> Template | None: ...
    async def version(self, key: str, number: int) -> Version | None: ...
    async def versions(self, key: str) -> list[Version]: ...
    async def list(self, after: str, limit: int) -> list[Template]: ...
    async def save(self, caller: Caller, key: str, draft: Draft) -> Template: ...
    async def publish(self, version: Version) -> None:
        """Raises Conflict when another publication took the number."""
        ...

    async def choose(self, key: str, number: int) -> None: ...
    async def delete(self, key: str) -> bool:
        """Its versions stay for what was accepted with them."""
        ...


class Renderer(Protocol):
    """Compiles and renders off the event loop, under limits. Raises Unavailable when it is overrun."""

    async def compile(self, draft: Draft, library: Mapping[str, Draft]) -> Compiled:
        """Raises InvalidRequest naming the part, its line and column."""
        ...

    async def render(
        self,
        name: str,
        compiled: Compiled,
        parts: Sequence[str],
        context: Mapping[str, Any],
        locale: str | None,
        time_zone: str | None,
    ) -> dict[str, str] | RenderFailed: ...

    async def preview(
        self, name: str, compiled: Compiled, context: Mapping[str, Any], locale: str | None, time_zone: str | None
    ) -> Preview:
        """Raises InvalidRequest."""
        ...
