"""A and B in turns: the machine is noisy, so only figures of the same minute are compared, and their median is told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

Measured = Callable[[], Awaitable[float]]


@dataclass(frozen=True)
class Compared:
    a: float
    b: float
    ratio: float
    ratios: tuple[float, ...]


@dataclass(frozen=True)
class Bare:
    """What a reference did, and what one of them cost its client."""

    per_second: float
    cpu_micros: float


async def in_turns(rounds: int, a: Measured, b: Measured) -> Compared:
    """A B A B ...; the medians, and the median of the rounds' ratios A ÷ B."""
    pairs = [(await a(), await b()) for _ in range(rounds)]
    ratios = tuple(one / other for one, other in pairs)
    return Compared(median(p[0] for p in pairs), median(p[1] for p in pairs), median(ratios), ratios)
