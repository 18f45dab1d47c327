"""Where what is under way came from: the client's address and the request's id, in a context variable."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    address: str | None = None
    request_id: str | None = None


_NOWHERE = Origin()
_current: ContextVar[Origin] = ContextVar("origin", default=_NOWHERE)


def current_origin() -> Origin:
    return _current.get()


def set_origin(origin: Origin) -> None:
    """For this task and those that it starts."""
    _current.set(origin)
