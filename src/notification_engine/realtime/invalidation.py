"""Caches of all replicas: what one of them changes, the others forget at once. Without a bus they forget by time."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

from notification_engine.services.ports import Bus

TOPIC = "cache"


class Cache(Protocol):
    on_change: Callable[[str], None]

    def forget(self, key: str) -> None: ...


class Invalidation:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._caches: dict[str, Cache] = {}
        bus.listen(TOPIC, self._heard)

    def join(self, name: str, cache: Cache) -> None:
        self._caches[name] = cache
        cache.on_change = partial(self._tell, name)

    def _tell(self, name: str, key: str) -> None:
        self._bus.tell(TOPIC, f"{name} {key}".encode())

    def _heard(self, message: bytes) -> None:
        """A name that is not known here is of a newer version's cache."""
        name, _, key = message.decode().partition(" ")
        if name in self._caches:
            self._caches[name].forget(key)
