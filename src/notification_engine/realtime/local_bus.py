"""The bus of a replica without `REDIS_URL`: nobody is reached, and the database tells the others, by their polls."""

from collections.abc import Callable, Mapping
from typing import Any


class LocalBus:
    """Implements `services.ports.Bus`."""

    reaches_others = False

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def tell(self, topic: str, message: bytes) -> None: ...
    def listen(self, topic: str, hear: Callable[[bytes], None]) -> None: ...
    def leave(self, topic: str) -> None: ...

    def shown(self) -> Mapping[str, Any]:
        return {"kind": "local", "status": "up", "reason": None}

    def figures(self) -> Mapping[str, int]:
        return {}
