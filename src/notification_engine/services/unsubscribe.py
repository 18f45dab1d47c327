"""Unsubscribe: one type on one channel is switched off, at once, by whoever holds the link of an e-mail."""

from dataclasses import dataclass
from typing import Protocol

from notification_engine.domain.delivery import Channel
from notification_engine.domain.errors import NotFound
from notification_engine.services.catalogue import Catalogue
from notification_engine.services.ports import PreferenceStore


class Sealed(Protocol):
    """What a token says."""

    @property
    def user_id(self) -> str: ...
    @property
    def notification_type(self) -> str: ...
    @property
    def channel(self) -> Channel: ...


class Opener(Protocol):
    def open(self, token: str) -> Sealed | None: ...


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    tokens: Opener
    preferences: PreferenceStore
    catalogue: Catalogue

    async def read(self, token: str) -> Sealed:
        """Raises NotFound for a token that is none, or of a type that nobody can switch off."""
        said = self.tokens.open(token)
        if said is None or (await self.catalogue.resolve(said.notification_type)).transactional:
            raise NotFound("There is no such link.")
        return said

    async def off(self, token: str) -> Sealed:
        """Harmless twice. Raises NotFound and Unavailable."""
        said = await self.read(token)
        await self.preferences.switch_off(said.user_id, said.notification_type, said.channel)
        return said
