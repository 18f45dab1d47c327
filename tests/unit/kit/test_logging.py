"""The log as a file or a collector sees it: through the real handlers, read back line by line."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.unit.kit.test_tracing import HEADER, TRACE, Kept

from notification_engine.kit import tracing
from notification_engine.kit.logging import configure_logging, get_logger

GUIDE = Path(__file__).parents[3] / "docs" / "deployment-guide.md"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def restored() -> Iterator[None]:
    """Logging belongs to the process: handlers, levels and the bound request id are put back."""
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines(restored: None, tmp_path: Path) -> Lines:
    """Everything that was logged as JSON so far."""
    file = tmp_path / "notifications.log"
    configure_logging("DEBUG", "json", file)

    def read() -> list[dict[str, Any]]:
        text = file.read_text("utf-8")
        assert text.endswith("\n")
        return [json.loads(line) for line in text[:-1].split("\n")]

    return read


def guides_example() -> dict[str, Any]:
    section = GUIDE.read_text().partition("#### Structured Logging Format")[2]
    block = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return dict(json.loads(block[1]))


def test_a_line_has_the_guides_fields_in_the_guides_order_and_no_other(lines: Lines) -> None:
    example = guides_example()
    get_logger(example["component"]).info(
        example["message"],
        request_id=example["request_id"],
        user_id=example["user_id"],
        notification_id=example["notification_id"],
        **example["metadata"],
    )
    (line,) = lines()
    assert list(line) == list(example)
    assert line | {"timestamp": example["timestamp"]} == example


def test_a_line_without_ids_says_so_with_null(lines: Lines) -> None:
    get_logger("service-layer").warning("Nothing in particular")
    (line,) = lines()
    assert list(line) == list(guides_example())
    assert (line["request_id"], line["user_id"], line["notification_id"], line["metadata"]) == (None, None, None, {})
    assert (line["level"], line["component"]) == ("WARNING", "service-layer")


def test_the_time_is_utc_and_now(lines: Lines) -> None:
    get_logger("engine").info("now")
    (line,) = lines()
    assert line["timestamp"].endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(line["timestamp"]) < timedelta(minutes=1)


def test_whatever_else_is_bound_goes_into_the_metadata(lines: Lines) -> None:
    names = {"service": "other", "timestamp_": 1, "channel": "email", "message": "other", "metadata": {"a": 1}}
    get_logger("engine").info("kept apart", **names, nothing=None, _hidden=1)
    (line,) = lines()
    assert list(line) == list(guides_example())
    assert (line["service"], line["message"]) == ("notification-engine", "kept apart")
    assert line["metadata"] == names


def test_the_request_id_travels_in_the_context(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(request_id="req_1")
    get_logger("api").info("in a request")
    logging.getLogger("a.library").info("in the same request")
    structlog.contextvars.clear_contextvars()
    get_logger("api").info("outside")
    assert [line["request_id"] for line in lines()] == ["req_1", "req_1", None]


def test_the_trace_is_named_in_the_metadata(lines: Lines) -> None:
    recorder = Kept()
    tracing.record(recorder)
    with tracing.resume("lane", HEADER, {}):
        get_logger("delivery-daemon").info("in a trace", channel="email")
    tracing.stop_recording(recorder)
    get_logger("delivery-daemon").info("outside")
    inside, outside = lines()
    assert list(inside) == list(guides_example())
    assert (inside["metadata"], outside["metadata"]) == ({"channel": "email", "trace_id": TRACE}, {})


def test_a_librarys_line_passes_through_the_same_form(lines: Lines) -> None:
    logging.getLogger("a.library").error("%s of %d", "one", 2, extra={"secret": "not asked for"})
    (line,) = lines()
    assert list(line) == list(guides_example())
    assert (line["message"], line["component"], line["level"]) == ("one of 2", "a.library", "ERROR")
    assert line["metadata"] == {}


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", 'quote " and \\', "nul \0", "esc \x1b[31mred", "\u2028", "\x85", "é 🚀"]
)
def test_a_text_of_any_characters_stays_one_line_and_comes_back(lines: Lines, text: str) -> None:
    get_logger("engine").info(text, user_id=text, note=text)
    logging.getLogger("a.library").info(text)
    ours, theirs = lines()
    assert (ours["message"], ours["user_id"], ours["metadata"]["note"], theirs["message"]) == (text,) * 4


def test_no_control_character_is_written_raw(lines: Lines, tmp_path: Path) -> None:
    get_logger("engine").info("".join(chr(c) for c in range(32)))
    raw = (tmp_path / "notifications.log").read_bytes()
    assert raw.count(b"\n") == 1
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", raw)


def test_a_forged_line_in_a_message_is_a_text_and_no_line(lines: Lines) -> None:
    forged = '"}\n{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","message":"all is well"}'
    get_logger("engine").info(forged, user_id=forged)
    assert [line["message"] for line in lines()] == [forged]


@pytest.mark.parametrize(
    "value",
    ["\ud800", 2**70, {1: "a"}, {("a", 1): 2}, float("nan"), b"\xff", object(), {"deep": {"deeper": {2**80}}}],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_does_not_know_loses_no_line(lines: Lines, value: object) -> None:
    get_logger("engine").info("still told", odd=value)
    get_logger("engine").info("and the next")
    assert [line["message"] for line in lines()] == ["still told", "and the next"]


def test_an_exception_stands_in_the_metadata_without_the_values_of_its_frames(lines: Lines) -> None:
    def fail() -> None:
        password = "hunter2" + "!" * 3  # a local that a traceback with values would show
        raise ValueError(f"of {len(password)} characters")

    for log in (get_logger("engine").exception, logging.getLogger("a.library").exception):
        try:
            fail()
        except ValueError:
            log("It failed")
    for line in lines():
        assert list(line) == list(guides_example())
        assert set(line["metadata"]) == {"exception"}
        assert "ValueError: of 10 characters" in line["metadata"]["exception"]
        assert "hunter2!" not in json.dumps(line)


def test_the_level_is_kept(lines: Lines, tmp_path: Path) -> None:
    configure_logging("WARNING", "json", tmp_path / "notifications.log")
    get_logger("engine").info("not this")
    get_logger("engine").warning("this")
    logging.getLogger("a.library").info("nor this")
    assert [line["message"] for line in lines()] == ["this"]


@pytest.mark.parametrize("noisy", ["pymongo", "asyncio", "aiosmtplib"])
def test_a_driver_that_would_log_commands_and_replies_is_kept_quiet(lines: Lines, noisy: str) -> None:
    logging.getLogger(noisy).debug("RCPT TO:<ada@example.org>")
    logging.getLogger(noisy).info("AUTH PLAIN c2VjcmV0")
    logging.getLogger(noisy).warning("only this")
    assert [line["message"] for line in lines()] == ["only this"]


def test_the_file_survives_its_rotation(lines: Lines, tmp_path: Path) -> None:
    get_logger("engine").info("before")
    (tmp_path / "notifications.log").rename(tmp_path / "notifications.log.1")
    get_logger("engine").info("after")
    assert [line["message"] for line in lines()] == ["after"]


def test_lines_for_people_are_on_standard_output(restored: None, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "console")
    get_logger("engine").info("Hello", channel="email")
    shown = capsys.readouterr().out
    assert "Hello" in shown
    assert "channel=email" in shown
    assert not shown.startswith("{")


def test_a_handler_that_fails_is_told_on_standard_error_and_stops_nobody(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk of the log is full, or its reader has gone."""

    class Full(logging.StreamHandler[Any]):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    logging.getLogger().handlers[0].flush = Full.flush.__get__(logging.getLogger().handlers[0])  # type: ignore[method-assign]
    address = "ada" + "@house.test"  # not in the source that a traceback shows
    get_logger("engine").info("still told", address=address)
    told = capsys.readouterr().err
    assert "No space left on device" in told
    assert "ada@" not in told
    assert [line["message"] for line in lines()] == ["still told"]


FORGERIES = [
    "a\nlevel=ERROR forged",
    "a\r\nforged",
    "a\u2028forged",
    "a\u2029forged",
    "a\x85forged",
    "a\x1b[2Jforged",
    "a\x1b]0;title\x07",
    "a\x9b31mforged",
    "a\x08\x08forged",
    "a\u202egnp.exe",
    "a\u2066turned\u2069",
    "a\x00b",
]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("text", FORGERIES, ids=ascii)
def test_no_field_of_a_caller_ends_a_line_moves_a_cursor_or_turns_a_text(
    restored: None, capsys: pytest.CaptureFixture[str], form: str, text: str
) -> None:
    configure_logging("DEBUG", form)
    structlog.contextvars.bind_contextvars(request_id=text)
    get_logger("api").info("Request answered", path=text, user_id=text, nested={"deep": [text]})
    logging.getLogger("somebody's").warning("failed for %s", text)
    written = capsys.readouterr().out
    assert len(written.splitlines()) == 2, "also as Unicode ends lines"
    assert all(line.isprintable() for line in written.splitlines())
    assert written.count("a\\") >= 4, "it is there, escaped"


def test_a_traceback_for_people_keeps_its_lines_and_nothing_else(
    restored: None, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("DEBUG", "console")
    try:
        raise ValueError("\x1b[2J\u2028")
    except ValueError:
        get_logger("api").exception("It failed")
    written = capsys.readouterr().out
    assert len(written.split("\n")) > 4
    assert all(line.isprintable() for line in written.split("\n"))
