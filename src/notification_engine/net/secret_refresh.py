"""Reads the secrets that stand in files and secret stores again, and hands on what has changed.

Invariant: what cannot be read, or would be refused at a start, changes nothing; the values before stay in force.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from notification_engine.domain.errors import ConfigurationError, EngineError
from notification_engine.kit.logging import get_logger
from notification_engine.kit.loop import Loop

log = get_logger("engine")

Apply = Callable[[str], Awaitable[None]]  # the changed variable's name; the new settings are its owner's to ask


class Sources(Protocol):
    async def read(self) -> tuple[dict[str, str], dict[str, str]]: ...


class SecretRefresh(Loop):
    """`renew` checks new values as a start would and answers the names that differ; it raises ConfigurationError.
    `apply`: what can take a new value while it runs, by its variable."""

    name = "secret-refresh"

    def __init__(
        self,
        sources: Sources,
        renew: Callable[[Mapping[str, str]], set[str]],
        apply: Mapping[str, Apply],
        interval_seconds: float,
    ) -> None:
        super().__init__(interval_seconds)
        self._sources = sources
        self._renew = renew
        self._apply = apply
        self._waiting: set[str] = set()

    async def run_once(self) -> None:
        values, problems = await self._sources.read()
        for problem in problems.values():
            log.warning("A secret cannot be read again; the value before stays in force", reason=problem)
        try:
            changed = self._renew(values)
        except ConfigurationError as error:
            log.error("A new secret is refused; the value before stays in force", reason=str(error))
            return
        for name in sorted(changed | self._waiting):
            await self._hand_on(name)

    async def _hand_on(self, name: str) -> None:
        self._waiting.discard(name)
        if name not in self._apply:
            log.warning("A secret has changed: restart needed", variable=name)
            return
        try:
            await self._apply[name](name)
            log.info("A secret has changed and is in force", variable=name)
        except (ConfigurationError, EngineError) as error:
            self._waiting.add(name)
            log.error("A new secret could not be put in force; tried again", variable=name, reason=str(error))
