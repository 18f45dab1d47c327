"""The example answers of what operators do: templates, types, suppressions, dead letters."""

from typing import Any

_ULID = "01kb0c5s2m8v7k3r9x4w6y1z0a"
_AT = "2026-11-24T14:38:17.457000Z"
_SUMMARY = {
    "key": "build.finished",
    "kind": "message",
    "description": "A build has ended.",
    "locales": ["en"],
    "published_version": 1,
    "builtin": False,
    "updated_at": _AT,
}
_DRAFT = {
    "kind": "message",
    "description": "A build has ended.",
    "default_locale": "en",
    "locales": {"en": {"subject": "Build {{ number }}", "text": "Build {{ number }} has ended."}},
    "sample_data": {"number": 7},
}
_TEMPLATE = _SUMMARY | {"created_at": _AT, "updated_by": "op", "draft": _DRAFT}
_VERSION = {
    "key": "build.finished",
    "version": 1,
    "published_at": _AT,
    "published_by": "op",
    "uses": {},
    "draft": _DRAFT,
}
_PREVIEW = {
    "locale": "en",
    "subject": "Build 7",
    "title": "Build 7",
    "body": "Build 7 has ended.",
    "text": "Build 7 has ended.\n",
    "html": "<html><body><p>Build 7 has ended.</p></body></html>",
    "missing": [],
}
_TYPE = {
    "name": "build.finished",
    "description": "A build has ended.",
    "channels": ["in_app", "email"],
    "priority": "medium",
    "on_unknown": "hold",
    "transactional": False,
    "template": "build.finished",
    "sensitive": False,
    "builtin": False,
    "overridden": True,
    "updated_at": _AT,
}
_SUPPRESSION = {
    "suppression_id": "sup_fe7c62e11086efe85907ae959b7d065c",
    "address": "ada@example.org",
    "channel": "email",
    "reason": "manual",
    "source": "operator",
    "note": "asked by telephone",
    "created_at": _AT,
    "created_by": "op",
}
_LETTER = {
    "delivery_id": f"dlv_{_ULID}_0",
    "notification_id": f"ntfy_{_ULID}",
    "user_id": "u1",
    "notification_type": "test_execution.completed",
    "channel": "webhook",
    "endpoint": f"whk_{_ULID}",
    "status": "failed",
    "reason": "server_error",
    "attempts": 4,
    "created_at": _AT,
    "updated_at": _AT,
}
INTERVENED = {"changed": 2, "skipped": 0, "more": False}
PAGE = "<!doctype html><title>Unsubscribe</title>"


def operator_answers(notification: dict[str, Any], attempt: dict[str, Any]) -> dict[str, Any]:
    """By method and path below the prefix, with examples of what others show too."""
    inspected = _LETTER | {"notification": notification, "history": [attempt | {"delivery_status": "failed"}]}
    return {
        "GET ~/templates": {"templates": [_SUMMARY], "next_cursor": None},
        "GET ~/templates/{key}": _TEMPLATE,
        "PUT ~/templates/{key}": _TEMPLATE | {"published_version": None},
        "POST ~/templates/{key}/preview": _PREVIEW,
        "POST ~/templates/{key}/publish": _VERSION,
        "GET ~/templates/{key}/versions": {"versions": [_VERSION]},
        "GET ~/types": {"types": [_TYPE], "next_cursor": None},
        "GET ~/types/{name}": _TYPE,
        "PUT ~/types/{name}": _TYPE,
        "PATCH ~/types/{name}": _TYPE | {"priority": "high"},
        "GET ~/suppressions": {"suppressions": [_SUPPRESSION], "next_cursor": None},
        "POST ~/suppressions": _SUPPRESSION,
        "POST ~/suppressions/import": {"added": 1, "existing": 0},
        "GET ~/suppressions/{suppression_id}": _SUPPRESSION,
        "GET ~/dead-letters": {"dead_letters": [_LETTER], "next_cursor": None},
        "GET ~/dead-letters/{delivery_id}": inspected,
        "POST ~/dead-letters/replay": INTERVENED,
        "POST ~/dead-letters/discard": INTERVENED,
        "GET ~/unsubscribe/{token}": PAGE,
        "POST ~/unsubscribe/{token}": PAGE,
    }
