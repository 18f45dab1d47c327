"""What each command of MongoDB took, from the driver's own events; of what was asked and answered nothing is looked at.

Invariant: the names are a closed set, because each is a series of a metric.
"""

from collections.abc import Callable
from typing import Any

from pymongo import monitoring

COMMANDS = frozenset(
    {
        "abortTransaction",
        "aggregate",
        "commitTransaction",
        "count",
        "delete",
        "find",
        "findAndModify",
        "getMore",
        "hello",
        "insert",
        "ping",
        "update",
    }
)
OTHER = "other"
Observe = Callable[[str, float, bool], None]  # name, seconds, whether it succeeded


class CommandTimes(monitoring.CommandListener):
    def __init__(self, observe: Observe) -> None:
        self._observe = observe

    def started(self, event: Any) -> None: ...

    def succeeded(self, event: Any) -> None:
        self._tell(event, True)

    def failed(self, event: Any) -> None:
        self._tell(event, False)

    def _tell(self, event: Any, succeeded: bool) -> None:
        name = event.command_name if event.command_name in COMMANDS else OTHER
        self._observe(name, event.duration_micros / 1_000_000, succeeded)
