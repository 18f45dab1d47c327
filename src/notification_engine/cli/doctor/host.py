"""Of this machine: the log file, and room where the engine writes."""

import os
import shutil
import tempfile
from pathlib import Path

from notification_engine.cli.doctor.finding import Finding, fail, ok, warn
from notification_engine.settings import Settings

LITTLE, TOO_LITTLE = 1024**3, 100 * 1024**2  # bytes
LITTLE_SHARE = 0.1


def look(settings: Settings) -> list[Finding]:
    return [_log_file(settings.LOG_FILE), *(_disk(place) for place in _places(settings))]


def _log_file(path: Path | None) -> Finding:
    if path is None:
        return ok("log file", "not set: standard output alone")
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640))
    except OSError as error:
        return fail("log file", f"{path} cannot be written ({type(error).__name__})", "Change LOG_FILE, or its owner.")
    return ok("log file", f"{path} can be written")


def _places(s: Settings) -> list[Path]:
    """One a file system."""
    wanted = [Path(tempfile.gettempdir())]
    wanted += [path.parent for path in (s.LOG_FILE, s.ERASURE_LOG_FILE) if path is not None]
    wanted += [s.MONGODB_DATA_DIR] if s.MONGODB_URL is None else []
    there = [next(p for p in (path.absolute(), *path.absolute().parents) if p.exists()) for path in wanted]
    return list({place.stat().st_dev: place for place in reversed(there)}.values())


def _disk(place: Path) -> Finding:
    usage = shutil.disk_usage(place)
    return judge_room(str(place), usage.free, usage.total)


def judge_room(place: str, free: int, total: int) -> Finding:
    told = f"{place}: {free / 1024**3:.1f} of {total / 1024**3:.1f} GiB free"
    todo = "Make room: rotate logs, move backups away, enlarge the disk."
    if free < TOO_LITTLE:
        return fail("disk", told, todo)
    return warn("disk", told, todo) if free < LITTLE and free < total * LITTLE_SHARE else ok("disk", told)
