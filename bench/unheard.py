"""The reference of `listener`: the engine whose driver tells nobody what each command of MongoDB took."""

from typing import Any

from bench import altered
from notification_engine.storage.connection import Database
from notification_engine.wiring import stores


class Unheard(Database):
    def __init__(self, *args: Any, observe: object, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)


if __name__ == "__main__":
    stores.Database = Unheard  # type: ignore[misc,attr-defined]
    altered.serve()
