"""Importing this fills the table, in the order of the report."""

from importlib import import_module
from pathlib import Path

for _module in ("engine", "claims", "excess", "database", "providers", "live", "races"):
    if (Path(__file__).parent / f"{_module}.py").exists():
        import_module(f"tests.chaos.faults.{_module}")
