"""What the figures of `notification_state` and the labels of all metrics mean, for the page and for the test of both.

Invariant: every figure that a scrape shows has its line here, and every label is of a closed set.
"""

import re
from collections.abc import Mapping

from notification_engine.domain.delivery import Channel, DeliveryStatus, Reason
from notification_engine.domain.feedback import EventKind
from notification_engine.domain.rate_limit import RateClass

_CHANNELS = tuple(str(c) for c in Channel)
PROVIDERS = ("console", "sendgrid", "ses", "smtp", "in_app", "webhook", "engine")
PLACES: Mapping[str, tuple[str, ...]] = {
    "channel": _CHANNELS,
    "provider": PROVIDERS[:4],
    "class": tuple(str(c) for c in RateClass),
}

# `{...}` is one of PLACES. Of several processes on one machine: the sum, unless the line says the worst.
FIGURES: Mapping[str, str] = {
    "queue_waiting": "Notifications with something to do, now or later; of the whole database",
    "queue_due": "Of these, due now; the autoscaler's figure; of the whole database",
    "queue_oldest_due_ms": "For how many milliseconds the oldest of them is due",
    "queue_age_seconds": "Age of the three figures of the queue",
    "lane_{channel}_queued": "Deliveries that wait in the channel's lane",
    "lane_{channel}_in_flight": "Deliveries that are being sent",
    "lane_{channel}_bound": "How many may be in flight",
    "leases_held": "Unsettled notifications leased to this machine's processes",
    "room": "How many more they may lease; at 0 a 202 is stored without a lease",
    "breaker_{provider}": "0 closed, 1 half open, 2 open; the worst",
    "live_connections": "Open WebSockets and event streams",
    "live_users": "Users with at least one of these",
    "live_max": "How many connections may be open",
    "pool_in_use": "Connections to MongoDB that are in use",
    "pool_idle": "Connections to MongoDB that are open and idle",
    "pool_waiting": "Who waits for a connection to MongoDB",
    "pool_max": "How many connections to MongoDB may be open",
    "seconds_without_primary": "Since a primary of MongoDB answered; asked every two seconds; the worst",
    "clock_skew_seconds": "Difference between the machine's clock and MongoDB's; the worst",
    "not_ready": "1: readiness answers 503; the worst",
    "draining": "1: a process drains; the worst",
    "loops_late": "Loops without a run for twice their interval; the worst",
    "loop_errors": "Runs of loops that failed since the start; the worst",
    "uptime_seconds": "Since the start",
    "rate_limit_refused_{class}": "Requests refused with 429 since the start",
    "rate_limit_windows_{class}": "Callers whose requests are being counted",
    "bus_up": "1: Redis is reached, or none is configured; the figures below are there with Redis alone",
    "bus_topics": "Topics that are subscribed to",
    "bus_waiting": "Messages that wait to be sent",
    "bus_told": "Messages sent since the start",
    "bus_heard": "Messages received since the start",
    "bus_dropped": "Messages dropped because too many waited",
    "bus_refused": "Messages that Redis refused",
    "bus_links": "Connections to Redis that stand",
    "processes": "Processes of `serve --processes`; absent when there is one",
    "processes_up": "Of these, alive",
}

# Of `status`, which three metrics have, all that occur.
LABELS: Mapping[str, tuple[str, ...]] = {
    "channel": _CHANNELS,
    "provider": PROVIDERS,
    "status": (*map(str, DeliveryStatus), "2xx", "3xx", "4xx", "5xx", "none"),
    "reason": ("", *map(str, Reason)),
    "kind": (*map(str, EventKind), "unrecognised", "open_without_due", "overdue", "ended_without_history", "missing"),
    "matched": ("true", "false"),
    "outcome": ("claimed", "lost", "healthy", "unhealthy"),
    "action": ("access.unauthenticated", "access.forbidden"),
    "check": ("indexes", "clock", "conservation", "completed"),
    "command": (
        *("abortTransaction", "aggregate", "commitTransaction", "count", "delete", "find", "findAndModify", "getMore"),
        *("hello", "insert", "ping", "update", "other"),
    ),
}


def named(figure: str) -> str | None:
    """The line of FIGURES that a figure belongs to."""
    return next((pattern for pattern in FIGURES if _form(pattern).fullmatch(figure)), None)


def _form(pattern: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", lambda found: f"(?:{'|'.join(PLACES[found[1]])})", pattern))
