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
    "retention_days": 90,
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
_API_KEY = {
    "key_id": f"key_{_ULID}",
    "name": "Build server",
    "roles": ["service"],
    "notification_types": ["test_execution.*"],
    "sub": f"key_{_ULID}",
    "created_at": _AT,
    "created_by": "admin",
    "expires_at": "2099-12-31T00:00:00Z",
    "revoked_at": None,
    "last_used_at": _AT,
}
_MADE = _API_KEY | {"last_used_at": None, "api_key": f"ne_live_{_ULID}_{'Ab1' * 14}c"}
_TOKEN = {"access_token": "eyJ...", "token_type": "Bearer", "expires_in": 1800}
_AUDIT = {
    "audit_id": f"aud_{_ULID}",
    "timestamp": _AT,
    "user_id": "op",
    "roles": ["operator"],
    "key_id": None,
    "action": "type.change",
    "target": "build.finished",
    "subject": None,
    "before": {"priority": "medium"},
    "after": {"priority": "high"},
    "address": "192.0.2.7",
    "request_id": f"req_{_ULID}",
    "erased": [],
    "day": "2026-11-24",
    "seq": 7,
    "previous_hash": "5b" * 32,
    "hash": "c4" * 32,
}
_USER_DATA = {
    "schema_name": "user-data/1",
    "user_id": "u1",
    "collections": {"notification_preferences": [{"_id": "6924", "user_id": "u1", "mute": False, "types": []}]},
    "exported_at": _AT,
}
_ERASED = {
    "receipt_id": f"ers_{_ULID}",
    "subject": "erased_5b0c4e5f8f0d4b6ba9d8a7c3f2e1d0c9",
    "erased_at": _AT,
    "removed": {"notifications": 7, "notification_history": 12, "notification_preferences": 1},
    "in_flight": 0,
    "applied_after_restore": True,
    "detail": "It is in the list of erasures outside the database, and is applied again after a restore.",
}
INTERVENED = {"changed": 2, "skipped": 0, "more": False}
PAGE = "<!doctype html><title>Unsubscribe</title>"


def operator_answers(notification: dict[str, Any], attempt: dict[str, Any]) -> dict[str, Any]:
    """By method and path below the prefix, with examples of what others show too."""
    inspected = _LETTER | {"notification": notification, "history": [attempt | {"delivery_status": "failed"}]}
    return {
        "GET ~/audit-logs": {"audit_logs": [_AUDIT], "next_cursor": None},
        "GET ~/users/{user_id}/data": _USER_DATA,
        "DELETE ~/users/{user_id}/data": _ERASED,
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
        "GET ~/api-keys": {"api_keys": [_API_KEY], "next_cursor": None},
        "POST ~/api-keys": _MADE,
        "GET ~/api-keys/{key_id}": _API_KEY,
        "POST /api/v1/auth/token": _TOKEN,
        "POST /api/v1/auth/revoke": {"sub": "u_lost", "issued_until": _AT},
        "GET ~/unsubscribe/{token}": PAGE,
        "POST ~/unsubscribe/{token}": PAGE,
    }
