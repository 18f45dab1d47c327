"""The requests that are sent: of the size and kind that a test platform sends."""

import json
from typing import Any

USERS = 500
TYPES = ("test_execution.completed", "quality_alert.raised", "system_health.degraded", "account.invited")


def message(index: int, channel: str) -> dict[str, Any]:
    return {
        "notification_type": TYPES[index % len(TYPES)],
        "recipients": [{"user_id": f"user-{index % USERS:06d}"}],
        "title": f"Run {4000 + index} passed",
        "body": "148 of 148 tests passed on main in 12 minutes. The slowest was checkout_with_voucher, 41 s.",
        "data": {"run_id": 4000 + index, "branch": "main", "passed": 148, "failed": 0, "suite": "checkout"},
        "channels": [channel],
        "correlation_id": f"run-{4000 + index}",
    }


def singles(channel: str = "in_app", count: int = USERS) -> list[str]:
    return [json.dumps(message(i, channel)) for i in range(count)]


def batches(size: int, count: int, channel: str = "in_app") -> list[str]:
    """Bodies of `/batch`, `size` notifications each."""
    return [
        json.dumps({"notifications": [message(part * size + i, channel) for i in range(size)]}) for part in range(count)
    ]
