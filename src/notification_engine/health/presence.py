"""Who is connected where: this replica's own figures, and the others' from their last heartbeats, with their age."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from notification_engine.services.ports import Beat


class Beats(Protocol):
    async def alive(self) -> Sequence[Beat]: ...


class Presence:
    """`here` is read when asked. Users with connections to several replicas count once for each."""

    def __init__(self, beats: Beats, replica: str, here: Callable[[], Mapping[str, int]]) -> None:
        self._beats = beats
        self._replica = replica
        self._here = here
        self._others: Sequence[Beat] = ()
        self._looked = time.monotonic()

    async def look(self) -> None:
        self._others = [beat for beat in await self._beats.alive() if beat.replica != self._replica]
        self._looked = time.monotonic()

    def shown(self) -> dict[str, Any]:
        waited = time.monotonic() - self._looked
        beats = [Beat(self._replica, 0.0, self._here())]
        beats += [Beat(b.replica, b.age_seconds + waited, b.connections) for b in self._others]
        return {
            "connections": sum(beat.connections.get("connections", 0) for beat in beats),
            "users": sum(beat.connections.get("users", 0) for beat in beats),
            "replicas": [
                {"replica": b.replica, "age_seconds": round(b.age_seconds, 1), **b.connections} for b in beats
            ],
        }
