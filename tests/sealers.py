"""A sealer for repositories that a test builds without an engine."""

from notification_engine.security.envelope import DataKey, Sealer

KEY = DataKey(bytes(range(40)))


def sealer(purpose: str = "tests") -> Sealer:
    return Sealer(purpose, lambda: KEY)
