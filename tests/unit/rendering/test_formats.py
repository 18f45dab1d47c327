from datetime import UTC, datetime
from typing import Any

import pytest

from notification_engine.rendering.formats import Formats, is_locale

NOON = "2026-03-01T12:00:00Z"


def said(locale: str, zone: str | None, name: str, value: Any, *arguments: Any, **named: Any) -> str:
    formats = Formats()
    formats.use(locale, zone)
    text = formats.filters()[name](value, *arguments, **named)
    return text.replace("\u202f", " ").replace("\xa0", " ")


@pytest.mark.parametrize(
    ("locale", "zone", "name", "value", "arguments", "text"),
    [
        ("en", "UTC", "datetime", NOON, (), "Mar 1, 2026, 12:00 PM"),
        ("en", None, "datetime", NOON, (), "Mar 1, 2026, 12:00 PM UTC"),
        ("de", "Europe/Berlin", "datetime", NOON, (), "01.03.2026, 13:00"),
        ("de-CH", "Asia/Tokyo", "date", "2026-03-01T20:00:00Z", ("long",), "2. März 2026"),
        ("de", "Asia/Tokyo", "date", "2026-03-01", (), "01.03.2026"),
        ("en-GB", "Europe/London", "time", "2026-07-01T12:00:00Z", (), "13:00"),
        ("en", "UTC", "datetime", 1772366400, ("yyyy-MM-dd HH:mm",), "2026-03-01 12:00"),
        ("en", "UTC", "number", 1234567.891, (), "1,234,567.891"),
        ("de", "UTC", "number", 1234567.891, (2,), "1.234.567,89"),
        ("de-CH", "UTC", "number", 1234, (), "1’234"),
        ("en", "UTC", "percent", 0.256, (1,), "25.6%"),
        ("de", "UTC", "percent", 0.25, (), "25 %"),
        ("en", "UTC", "currency", 1234.5, ("EUR",), "€1,234.50"),
        ("de", "UTC", "currency", "1234.5", ("EUR",), "1.234,50 €"),
        ("en", "UTC", "duration", 75, (), "1 min 15 sec"),
        ("de", "UTC", "duration", 90061, (), "1 Tg. 1 Std."),
        ("en", "UTC", "duration", 0, (), "0 sec"),
    ],
)
def test_values_read_as_the_recipient_writes_them(
    locale: str, zone: str | None, name: str, value: Any, arguments: tuple[Any, ...], text: str
) -> None:
    assert said(locale, zone, name, value, *arguments) == text


@pytest.mark.parametrize(
    ("locale", "count", "form"),
    [
        ("en", 1, "1 one"),
        ("en", 0, "0 other"),
        ("en", 1234, "1,234 other"),
        ("pl", 3, "3 few"),
        ("pl", 5, "5 many"),
        ("ja", 1, "1 other"),
    ],
)
def test_plurals_follow_the_language(locale: str, count: int, form: str) -> None:
    forms = {name: f"# {name}" for name in ("one", "few", "many", "other")}
    assert said(locale, None, "plural", count, **forms) == form


def test_a_missing_form_falls_back_to_other() -> None:
    assert said("pl", None, "plural", 3, other="# x") == "3 x"


@pytest.mark.parametrize("name", ["datetime", "date", "time", "number", "percent", "plural", "duration"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_is_not_there_stays_empty(name: str, value: Any) -> None:
    assert said("en", None, name, value) == ""


@pytest.mark.parametrize(("name", "value"), [("date", "soon"), ("number", "many"), ("number", [1]), ("plural", True)])
def test_what_is_no_such_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Python's own words
        said("en", None, name, value)


def test_unknown_locales_and_zones_fall_back() -> None:
    assert said("xx", "Mars/Base", "datetime", NOON) == "Mar 1, 2026, 12:00 PM"
    assert is_locale("de-CH")
    assert not is_locale("xx-YY")
    assert datetime.fromisoformat(NOON).tzinfo == UTC
