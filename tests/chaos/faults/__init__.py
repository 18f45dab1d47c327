"""The faults, a file a group. Each is an async function `(count, seed, shared, broken) -> Row`, registered by name.

`count` scales a fault: notifications, kills or injections, as its own docstring says. `shared` is a replica set that
other faults use too, or None where the fault wants one of its own. `broken` is the name of a broken build to run.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.chaos.cluster import Cluster
from tests.chaos.ledger import Row

Run = Callable[[int, int, Cluster | None, str | None], Awaitable[Row]]


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    run: Run
    full: int
    short: int
    shares: bool  # whether the replica set may be shared with other faults


FAULTS: dict[str, Fault] = {}


def fault(name: str, *, full: int, short: int, shares: bool = True) -> Callable[[Run], Run]:
    """Registers an async function under its name, with its full and its short count."""

    def register(run: Run) -> Run:
        FAULTS[name] = Fault(name, run, full, short, shares)
        return run

    return register
