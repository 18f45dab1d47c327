"""Dates, numbers, money and plurals as filters, by the locale and time zone of the message (CLDR, by Babel)."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError, dates, numbers, units

FILTERS = ("datetime", "date", "time", "number", "percent", "currency", "plural", "duration")
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


class Formats:
    """The filters read `locale` and `zone`, which are set before each render; one process renders one at a time."""

    def __init__(self) -> None:
        self.locale = locale_of("en")
        self.zone: tzinfo = UTC
        self._zone_known = False

    def use(self, locale: str, time_zone: str | None) -> None:
        self.locale, self.zone = locale_of(locale), zone_of(time_zone)
        self._zone_known = time_zone is not None

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {name: _forgiving(getattr(self, f"_{name}")) for name in FILTERS}

    def _datetime(self, value: Any, style: str | None = None) -> str:
        """Day and minute, unless a style of CLDR is named: short, medium, long, full, or a pattern."""
        moment = self._moment(value)
        if style is not None:
            return dates.format_datetime(moment, style, self.zone, self.locale)
        day = dates.format_date(moment.astimezone(self.zone), "medium", self.locale)
        pattern = str(self.locale.datetime_formats["medium"])
        return pattern.replace("'", "").replace("{1}", day).replace("{0}", self._time(value))

    def _date(self, value: Any, style: str = "medium") -> str:
        """A bare date (`2026-03-01`) stays that day in every time zone."""
        if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            return dates.format_date(date.fromisoformat(value), style, self.locale)
        return dates.format_date(self._moment(value).astimezone(self.zone), style, self.locale)

    def _time(self, value: Any, style: str = "short") -> str:
        """With its zone where the recipient's is not known: a bare time would be read as local."""
        time = dates.format_time(self._moment(value), style, self.zone, self.locale)
        return time if self._zone_known else f"{time} UTC"

    def _number(self, value: Any, decimals: int | None = None) -> str:
        pattern = None if decimals is None else "#,##0" + ("." + "0" * min(decimals, 20) if decimals else "")
        return _decimal(_number(value), pattern, self.locale)

    def _percent(self, value: Any, decimals: int = 0) -> str:
        """A share: 0.25 is 25 %."""
        pattern = re.sub(r"#,##0", "#,##0" + ("." + "0" * min(decimals, 20) if decimals else ""), self._percent_pattern)
        return numbers.format_percent(_number(value), pattern, self.locale)

    @property
    def _percent_pattern(self) -> str:
        return str(self.locale.percent_formats[None].pattern)

    def _currency(self, value: Any, code: str) -> str:
        return numbers.format_currency(_number(value), code, locale=self.locale)

    def _plural(self, value: Any, **forms: str) -> str:
        """`{{ n | plural(one="# test", other="# tests") }}`: the form of the language for n, `#` is the number."""
        count = _number(value)
        form = forms.get(self.locale.plural_form(abs(count)), forms.get("other", ""))
        return form.replace("#", self._number(count))

    def _duration(self, value: Any) -> str:
        """Seconds as the two largest units: 75 is 1 min, 15 sec in the language of the message."""
        left = float(_number(value))
        parts: list[str] = []
        for unit, size in _UNITS:
            count, left = divmod(left, size)
            if count or (unit == "second" and not parts):
                parts.append(_unit(int(count), unit, self.locale))
        return " ".join(parts[:2])

    def _moment(self, value: Any) -> datetime:
        """An ISO 8601 text, or seconds since the epoch."""
        if isinstance(value, str):
            parsed = datetime.fromisoformat(value)
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(_number(value)), UTC)


@lru_cache(maxsize=10_000)
def _decimal(value: int | float, pattern: str | None, locale: Locale) -> str:
    """Babel takes 50 µs for it; many recipients of one event are shown the same numbers."""
    return numbers.format_decimal(value, pattern, locale)


@lru_cache(maxsize=10_000)
def _unit(count: int, unit: str, locale: Locale) -> str:
    return units.format_unit(count, unit, "short", locale=locale)


def _forgiving(filter_: Callable[..., str]) -> Callable[..., str]:
    """What is not there stays empty, as without a filter: a date that is missing does not cost the message."""

    def filtered(value: Any = None, *arguments: Any, **named: Any) -> str:
        return "" if value is None or value == "" else filter_(value, *arguments, **named)

    return filtered


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a number is needed")
    return value if not isinstance(value, str) else float(value)


@lru_cache(maxsize=1000)
def is_locale(name: str) -> bool:
    try:
        Locale.parse(name, sep="-")
    except (UnknownLocaleError, ValueError):
        return False
    return True


@lru_cache(maxsize=1000)
def locale_of(name: str) -> Locale:
    """English for what CLDR does not know."""
    return Locale.parse(name if is_locale(name) else "en", sep="-")


@lru_cache(maxsize=1000)
def zone_of(name: str | None) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
