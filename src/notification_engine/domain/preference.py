"""A recipient's choice: mute all, or switch a channel on or off for a type or a pattern such as `test_execution.*`."""

from dataclasses import dataclass, field
from datetime import datetime

from notification_engine.domain.delivery import Channel


def matches(pattern: str, notification_type: str) -> bool:
    """Exact, `word.*` for every type that starts with `word.`, or `*` for all."""
    if pattern == "*" or pattern == notification_type:
        return True
    return pattern.endswith(".*") and notification_type.startswith(pattern[:-1])


@dataclass(slots=True)
class Preference:
    """`types` maps a type or pattern to channels switched on or off; the most specific that says something wins."""

    user_id: str
    mute: bool = False
    types: dict[str, dict[Channel, bool]] = field(default_factory=dict)
    updated_at: datetime | None = None

    def allows(self, notification_type: str, channel: Channel) -> tuple[bool, str | None]:
        """Whether the channel is on, and the pattern that decided (None: nothing was said)."""
        said = [(p, c[channel]) for p, c in self.types.items() if channel in c and matches(p, notification_type)]
        if not said:
            return True, None
        pattern, on = max(said, key=lambda rule: (rule[0] == notification_type, len(rule[0])))
        return on, pattern
