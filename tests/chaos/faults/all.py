"""Importing this fills the table of faults."""

from tests.chaos.faults import (  # noqa: F401 - each registers its own
    claims,
    database,
    email,
    engine,
    excess,
    interventions,
    live,
    providers,
    races,
    redis,
)
