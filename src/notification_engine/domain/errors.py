"""The error tree. Expected failures of sending are not here: a channel answers an `Outcome`.

    EngineError
    ├── RequestError            the caller can mend it; each knows its problem type (RFC 9457) and HTTP status
    │   ├── InvalidRequest      422
    │   ├── Unauthenticated     401
    │   ├── Forbidden           403
    │   ├── NotFound            404
    │   ├── Conflict            409
    │   ├── TooLarge            413
    │   └── RateLimited         429 with Retry-After; nothing else is ever 429
    └── Unavailable             503 with Retry-After: the store is away, the fate of a write unknown, a queue full
        └── Unreadable          503: what is stored does not open: altered, moved, or its key is gone

    ConfigurationError          stands outside, so that no loop can swallow it

No text carries a body, an address or a secret.
"""


class EngineError(Exception):
    """Root of what the engine itself raises."""


class RequestError(EngineError):
    status = 400
    title = "Bad request"
    kind = "bad-request"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.field = field


class InvalidRequest(RequestError):
    """`line` and `column` count from 1 in the text that `field` names: a template that does not parse."""

    status = 422
    title = "Invalid request"
    kind = "invalid-request"

    def __init__(
        self, detail: str, *, field: str | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        place = [f"{name} {value}" for name, value in (("line", line), ("column", column)) if value is not None]
        super().__init__(f"{detail} ({', '.join(place)})" if place else detail, field=field)
        self.line = line
        self.column = column


class Unauthenticated(RequestError):
    status = 401
    title = "Authentication needed"
    kind = "unauthenticated"


class Forbidden(RequestError):
    status = 403
    title = "Role missing"
    kind = "forbidden"


class NotFound(RequestError):
    status = 404
    title = "Not found"
    kind = "not-found"


class Conflict(RequestError):
    status = 409
    title = "Conflict"
    kind = "conflict"


class TooLarge(RequestError):
    status = 413
    title = "Too large"
    kind = "too-large"


class RateLimited(RequestError):
    status = 429
    title = "Too many requests"
    kind = "rate-limited"

    def __init__(self, detail: str, *, field: str | None = None, retry_after: int = 1) -> None:
        super().__init__(detail, field=field)
        self.retry_after = retry_after


class Unavailable(EngineError):
    """Nothing was promised; the same request may be sent again after `retry_after` seconds."""

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class Unreadable(Unavailable):
    """`gone`: its key was deleted, so nobody will read it again; else it was altered or moved."""

    def __init__(self, detail: str, *, gone: bool = False) -> None:
        super().__init__(detail)
        self.gone = gone


class ConfigurationError(Exception):
    """A setting is missing or wrong; the text names the variable and says what would be right."""
