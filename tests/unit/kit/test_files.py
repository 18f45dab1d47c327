"""A file is whole or not there: on an error the former one stays, and nobody writes the same one at once."""

import fcntl
import os
from pathlib import Path

import pytest

from notification_engine.kit.files import whole_file


def test_the_file_appears_at_the_end_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole_file(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_an_error_leaves_the_former_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"former")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.write(b"half" + None)  # type: ignore[operator]
    assert path.read_bytes() == b"former"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_writer_left_is_taken_over(tmp_path: Path) -> None:
    left = tmp_path / "a.partial"
    left.write_bytes(b"x" * 1000)
    left.chmod(0o644)
    with whole_file(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


def test_a_second_writer_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with whole_file(path) as file:
        file.write(b"first")
        with pytest.raises(BlockingIOError), whole_file(path):
            raise AssertionError("two writers on one file")
    assert path.read_bytes() == b"first"


def test_a_file_renamed_while_its_lock_is_taken_is_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, partial = tmp_path / "a", tmp_path / "a.partial"
    partial.write_bytes(b"of the other")
    flock = fcntl.flock

    def renamed_meanwhile(descriptor: int, operation: int) -> None:
        os.rename(partial, path)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", renamed_meanwhile)
    with pytest.raises(BlockingIOError), whole_file(path):
        raise AssertionError("the other's file was taken")
    assert path.read_bytes() == b"of the other"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"somebody's")
    (tmp_path / "a.partial").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic"), whole_file(tmp_path / "a"):
        raise AssertionError("written through a link")
    assert (tmp_path / "target").read_bytes() == b"somebody's"
