"""The disk under everything durable: one write of 4 KiB and its fdatasync."""

import os
import time
from pathlib import Path
from statistics import median

WRITES = 200


def fdatasync_ms(directory: Path) -> float:
    """The median of 200, in the directory where the databases are."""
    took = []
    with (directory / "fdatasync").open("wb", buffering=0) as file:
        for _ in range(WRITES):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            took.append(1000 * (time.perf_counter() - began))
    return median(took)
