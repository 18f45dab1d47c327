"""The examples of the OpenAPI document: one real answer for each operation, one problem for each status.

A test sends every example request and compares what comes back with these.
"""

from typing import Any

from notification_engine.api.examples_operator import INTERVENED, operator_answers
from notification_engine.api.models.read import ACCEPTED_EXAMPLE, BATCH_RESULT_EXAMPLE

_ULID = "01kb0c5s2m8v7k3r9x4w6y1z0a"
_AT = "2026-11-24T14:38:17.457000Z"
_NOTIFICATION: dict[str, Any] = {
    "notification_id": f"ntfy_{_ULID}",
    "event_id": f"evt_{_ULID}",
    "user_id": "u1",
    "notification_type": "test_execution.completed",
    "priority": "high",
    "status": "delivered",
    "title": "Run 4711 passed",
    "body": "148 of 148 tests passed.",
    "data": {"run": 4711},
    "actions": [{"label": "Open run", "url": "https://app.example.org/runs/4711"}],
    "channels": ["in_app"],
    "created_at": _AT,
    "scheduled_at": None,
    "expires_at": None,
    "correlation_id": None,
    "visible_at": _AT,
    "seen_at": None,
    "read_at": None,
    "archived_at": None,
    "snoozed_until": None,
}
_DELIVERY = {
    "delivery_id": f"dlv_{_ULID}_0",
    "channel": "in_app",
    "status": "delivered",
    "attempts": 1,
    "reason": None,
    "provider": "in_app",
    "held": False,
    "created_at": _AT,
    "updated_at": _AT,
    "delivered_at": _AT,
    "next_attempt_at": None,
}
_ATTEMPT = {
    "notification_id": f"ntfy_{_ULID}",
    "delivery_id": f"dlv_{_ULID}_1",
    "channel": "webhook",
    "provider": "webhook",
    "delivery_status": "delivered",
    "reason": None,
    "attempt": 1,
    "latency_ms": 3.7,
    "timestamp": _AT,
    "detail": "HTTP 204",
}
_ENTRY = {"timestamp": _AT, "code": "accepted", "text": "Accepted and stored.", "channel": None}
_TYPES = {"test_execution.*": {"email": False}, "test_execution.failed": {"email": True}}
_PREFERENCES = {"user_id": "u1", "mute": False, "types": _TYPES, "updated_at": _AT}
_WEBHOOK = {
    "webhook_id": f"whk_{_ULID}",
    "url": "https://hooks.example.org/notifications",
    "notification_types": ["*"],
    "description": "Build room",
    "enabled": True,
    "disabled_reason": None,
    "failing_since": None,
    "created_at": _AT,
}
_LANE = {"queued": 0, "in_flight": 1, "bound": 250}
_LANES = {"in_app": _LANE, "email": _LANE, "webhook": _LANE}
_LIVE = {"connections": 12, "users": 9, "max": 1000}
_FLEET = {
    "connections": 20,
    "users": 15,
    "replicas": [
        {"replica": "engine-0-17-4q2k9x", "age_seconds": 0.0, **_LIVE},
        {"replica": "engine-1-17-8zt3mm", "age_seconds": 12.4, "connections": 8, "users": 6, "max": 1000},
    ],
}
_BUS = {
    "kind": "redis",
    "status": "up",
    "reason": None,
    "since": _AT,
    "mode": "single",
    "sharded": True,
    "topics": 14,
    "waiting": 0,
    "told": 5120,
    "heard": 4980,
    "dropped": 0,
    "refused": 0,
    "links": 1,
}
_QUEUE = {"waiting": 3, "due": 1, "oldest_due_ms": 40, "age_seconds": 1.5}
_POOL = {"in_use": 1, "idle": 4, "waiting": 0, "max": 20}
_DAEMON = {"lanes": _LANES, "leases_held": 3, "room": 997, "draining": False}
_LOOPS = {"sweeper": {"last_beat": _AT, "errors": 0, "late": False}}
_CHANNELS = {
    "in_app": {"providers": ["in_app"], "lane": _LANE, "live": _LIVE, "fleet": _FLEET},
    "email": {"providers": ["smtp"], "lane": _LANE},
    "webhook": {"providers": ["webhook"], "lane": _LANE},
}
_STATUS = {
    "status": "healthy",
    "ready": True,
    "version": "0.1.0",
    "timestamp": _AT,
    "database": {"status": "up", "ping_ms": 1.2, "seconds_since_primary": 1.5, "pool": _POOL},
    "queue": _QUEUE,
    "daemon": {"status": "running", "loops": _LOOPS, **_DAEMON},
    "bus": _BUS,
    "channels": _CHANNELS,
    "checks": {"indexes": {"healthy": True, "missing": []}, "checked_at": _AT, "uptime_share": 1.0},
}
_KPIS = {
    "accepted": 120.0,
    "ended": 240.0,
    "success_rate": 0.99,
    "error_rate": 0.01,
    "average_delivery_ms": 21.5,
    "ended_per_minute": 4.0,
    "uptime_seconds": 3600.0,
}
_FIGURES = {
    "timestamp": _AT,
    "kpis": _KPIS,
    "queue": _QUEUE,
    "database_pool": _POOL,
    "daemon": _DAEMON,
    "connections": _LIVE,
    "clock_skew_seconds": 0.001,
}
_PROCESSES = {"processes": [{"process": 0, "pid": 4711, "state": "serving", "age_seconds": 3600.0}]}
_HELLO = 'event: hello\nid: MTc5NTUy\ndata: {"type":"hello","cursor":"MTc5NTUy","unread_count":2}\n\n'

# By method and path below the prefix; `/health` and `/metrics` stand outside it.
ANSWERS: dict[str, Any] = {
    "GET /health": {"status": "ok", "version": "0.1.0", "uptime_seconds": 2369.9},
    "GET /metrics": "notification_accepted_total 120.0\n",
    "GET ~/health/status": _STATUS | _PROCESSES,
    "GET ~/health/metrics": _FIGURES | _PROCESSES,
    "GET ~/health/daemon": {"status": "running", "pid": 4711, "loops": _LOOPS, **_DAEMON, **_PROCESSES},
    "GET ~/health/channels": _CHANNELS | _PROCESSES,
    "POST ~/": ACCEPTED_EXAMPLE,
    "POST ~/batch": BATCH_RESULT_EXAMPLE,
    "GET ~/": {"notifications": [_NOTIFICATION], "next_cursor": None},
    "GET ~/unread-count": {"unread_count": 7},
    "POST ~/read-all": {"changed": 7},
    "GET ~/{notification_id}": _NOTIFICATION | {"deliveries": [_DELIVERY]},
    "PATCH ~/{notification_id}": _NOTIFICATION | {"seen_at": _AT, "read_at": _AT, "deliveries": [_DELIVERY]},
    "GET ~/{notification_id}/timeline": {
        "notification_id": f"ntfy_{_ULID}",
        "status": "delivered",
        "entries": [_ENTRY],
    },
    "GET ~/history": {"attempts": [_ATTEMPT], "next_cursor": None},
    "GET ~/preferences": _PREFERENCES,
    "PUT ~/preferences": _PREFERENCES,
    "GET ~/webhooks": {"webhooks": [_WEBHOOK], "next_cursor": None},
    "POST ~/webhooks": _WEBHOOK | {"secret": "whsec_9Wb1fzgVUxYhyGxqOT5WW9iTCkUIPVxqtCOGJ6X6RCI="},
    "GET ~/webhooks/{webhook_id}": _WEBHOOK,
    "PATCH ~/webhooks/{webhook_id}": _WEBHOOK,
    "POST ~/webhooks/{webhook_id}/rotate": _WEBHOOK | {"secret": "whsec_9Wb1fzgVUxYhyGxqOT5WW9iTCkUIPVxqtCOGJ6X6RCI="},
    "POST ~/webhooks/{webhook_id}/test": {"delivered": True, "reason": None, "detail": "HTTP 204"},
    "POST ~/ws/ticket": {"ticket": "Rcj1QxTbBPtivefm-3RaoIx8rmjrmxKQDXOYK5frZ_8", "expires_in": 30},
    "GET ~/stream": _HELLO,
    "POST ~/webhooks/{webhook_id}/recover": INTERVENED,
    "POST ~/{notification_id}/cancel": _NOTIFICATION | {"status": "cancelled", "deliveries": [_DELIVERY]},
} | operator_answers(_NOTIFICATION | {"deliveries": [_DELIVERY]}, _ATTEMPT)
_PROBLEMS = {
    401: ("unauthenticated", "Authentication needed", "Send `Authorization: Bearer <token>`."),
    403: ("forbidden", "Role missing", "One of these roles is needed: service, admin."),
    404: ("not-found", "Not found", "There is no such notification."),
    409: ("conflict", "Conflict", "The first request with this key is not committed yet; send it again."),
    400: ("bad-request", "Bad request", "The body is not what was announced."),
    415: ("unsupported-media-type", "Unsupported Media Type", "Send text/csv."),
    413: ("too-large", "Too large", "The body must be at most 1048576 bytes."),
    422: ("invalid-request", "Invalid request", "title: must not be empty"),
    429: ("rate-limited", "Too many requests", "More than 60000 requests of the class read in 60 s."),
    503: ("unavailable", "Unavailable", "The database did not answer (ServerSelectionTimeoutError)."),
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def add_examples(document: dict[str, Any], prefix: str) -> None:
    """Puts them into the OpenAPI document, in place."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answer = ANSWERS.get(f"{method.upper()} {path.replace(prefix, '~')}")
            for status, response in operation["responses"].items():
                _add_to(status, response, answer)


def _add_to(status: str, response: dict[str, Any], answer: Any) -> None:
    for kind, content in response.get("content", {}).items():
        if kind == "application/problem+json" and int(status) in _PROBLEMS:
            content["example"] = _problem(int(status))
            if status in {"429", "503"}:
                response["headers"] = _RETRY_AFTER
        elif status.startswith("2") and answer is not None and isinstance(answer, str) != (kind == "application/json"):
            content.setdefault("example", answer)


def _problem(status: int) -> dict[str, Any]:
    kind, title, detail = _PROBLEMS[status]
    body = {"type": f"urn:notification-engine:problem:{kind}", "title": title, "status": status, "detail": detail}
    field = {"field": "title", "errors": [{"field": "title", "detail": "must not be empty"}]} if status == 422 else {}
    return body | field | {"request_id": f"req_{_ULID}"}
