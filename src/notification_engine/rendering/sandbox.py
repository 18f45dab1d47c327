"""Renders compiled parts: fuel for loops, a bound for the output, plain values only. Runs in a child process.

minijinja shows the public attributes of Python objects, methods of dict and list among them. The data is therefore
held by two classes that show none, and no name may begin with an underscore.

Invariant: in HTML a value is escaped, or with the filter `safe` cut down to harmless elements; nothing turns that off.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import nh3
from minijinja import Environment, Markup, TemplateError, pass_state
from minijinja import safe as marked_safe

from notification_engine.rendering.formats import FILTERS, Formats
from notification_engine.rendering.text import tidy

FUEL = 300_000  # instructions of one part; about 15 ms
MAX_OUTPUT = {"html": 1024 * 1024, "text": 512 * 1024, "body": 64 * 1024, "title": 4096, "subject": 4096}
_PRIVATE = re.compile(r"(?:\.\s*|\[\s*[\"'])_")
_UNESCAPED = re.compile(r"\{%[-+]?\s*autoescape\b")
_FILTERED = re.compile(rf"([A-Za-z]\w*(?:\.\w+)*)(\s*\|\s*(?:{'|'.join(FILTERS)})\b)")
_STATEMENT = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)


class _Hidden:
    def __get__(self, instance: object, owner: object = None) -> Any:
        raise AttributeError("not offered")


def _public(kind: type, *shown: str) -> dict[str, Any]:
    return {name: _Hidden() for name in dir(kind) if not name.startswith("_") and name not in shown}


# The filter `items` asks a mapping for its `items`.
Record: Any = type("Record", (dict,), {"__slots__": ()} | _public(dict, "items"))
Values: Any = type("Values", (list,), {"__slots__": ()} | _public(list))


def plain(value: Any) -> Any:
    """JSON values in the two classes; anything else is refused."""
    if isinstance(value, dict):
        return Record({str(key): plain(child) for key, child in value.items()})
    if isinstance(value, list):
        return Values([plain(child) for child in value])
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError("only JSON values")


class Refused(Exception):
    """A part cannot be rendered. `limit`: it stopped at one. `detail` is for authors, `safe` holds no data."""

    def __init__(
        self, part: str, kind: str, detail: str, *, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(detail)
        self.part, self.kind, self.detail, self.line, self.column = part, kind, detail, line, column

    @property
    def limit(self) -> bool:
        return self.kind in {"OutOfFuel", "OutputTooLarge", "OutOfMemory"}

    @property
    def safe(self) -> str:
        return f"{self.part}: {self.kind}" + (f" in line {self.line}" if self.line else "")


@pass_state
def safe(state: Any, value: Any) -> Any:
    """A value that is HTML, as HTML: scripts, handlers, forms, and addresses other than of the web and of e-mail go.
    What the template itself made (a macro, a block that was set) is HTML already."""
    if not _escapes(state.name) or isinstance(value, Markup):
        return value
    return marked_safe(nh3.clean("" if value is None else str(value), url_schemes={"http", "https", "mailto"}))


def _escapes(name: str) -> bool:
    return name.endswith(("html", "mjml"))


class Sandbox:
    """Keeps one environment for each digest it was given, the most recent `keep`."""

    def __init__(self, keep: int = 256) -> None:
        self._formats = Formats()
        self._keep = keep
        self._kept: OrderedDict[str, tuple[Environment, dict[str, str]]] = OrderedDict()

    def put(self, digest: str, parts: Mapping[str, str]) -> None:
        """Raises Refused for what does not parse or reads private names."""
        self._kept[digest] = (self._environment(parts, "chainable"), dict(parts))
        while len(self._kept) > self._keep:
            self._kept.popitem(last=False)

    def forget(self, digest: str) -> None:
        self._kept.pop(digest, None)

    def render(
        self, digest: str, parts: Sequence[str], context: Mapping[str, Any], locale: str, time_zone: str | None
    ) -> dict[str, str]:
        """Raises Refused."""
        self._kept.move_to_end(digest)
        forgiving, _ = self._kept[digest]
        self._formats.use(locale, time_zone)
        data = plain(dict(context))
        return {part: self._one(forgiving, part, data) for part in parts}

    def missing(
        self, digest: str, parts: Sequence[str], context: Mapping[str, Any], locale: str, time_zone: str | None
    ) -> list[str]:
        """The variables that these parts ask for and do not find, in the order of their meeting. What a template only
        tests (`{% if url %}`) or gives a default is not missing."""
        sources = self._kept[digest][1]
        strict = self._environment({part: _asking(source) for part, source in sources.items()}, "semi_strict")
        self._formats.use(locale, time_zone)
        found: list[str] = []
        data = dict(context)
        for part in parts:
            while len(found) < 100 and (name := self._first_missing(strict, part, plain(data))) is not None:
                if name in found or not _supply(data, name):
                    break
                found.append(name)
        return found

    def _first_missing(self, strict: Environment, part: str, data: Mapping[str, Any]) -> str | None:
        try:
            strict.render_template(part, **data)
        except TemplateError as error:
            if error.kind == "UndefinedError" and (named := re.match(r"`(.+?)` is undefined", error.detail or "")):
                return named[1]
        except Exception:  # noqa: BLE001 - only the missing ones are looked for
            return None
        return None

    def _one(self, environment: Environment, part: str, data: Mapping[str, Any]) -> str:
        try:
            output = environment.render_template(part, **data)
        except TemplateError as error:
            raise refused(part, error) from None
        except MemoryError:
            raise Refused(part, "OutOfMemory", "it needs too much memory") from None
        except Exception as error:  # noqa: BLE001 - filters raise what they like
            raise Refused(part, type(error).__name__, str(error)) from None
        if len(output) > MAX_OUTPUT[part]:
            raise Refused(part, "OutputTooLarge", f"the output is larger than {MAX_OUTPUT[part] // 1024} KiB")
        return tidy(output) + "\n" if part == "text" else output

    def _environment(self, parts: Mapping[str, str], undefined: Any) -> Environment:
        environment = Environment(
            fuel=FUEL,
            undefined_behavior=undefined,
            auto_escape_callback=_escapes,
            filters=self._formats.filters(),
            pycompat=False,
        )
        environment.remove_global("debug")
        environment.remove_filter("attr")
        environment.add_filter("safe", safe)
        for name, source in parts.items():
            check_syntax(environment, name, source)
        return environment


def _asking(source: str) -> str:
    """With every variable that a filter of ours is given put into an expression: minijinja tells of one that is
    missing there, while a filter in Python would just be handed None."""
    return _STATEMENT.sub(lambda tag: _FILTERED.sub(r'(\1 ~ "")\2', tag[0]), source)


def check_syntax(environment: Environment, name: str, source: str) -> None:
    """Adds the template. Raises Refused with line and column."""
    try:
        environment.add_template(name, source)
    except TemplateError as error:
        raise refused(name, error, source) from None
    for statement in _STATEMENT.finditer(source):
        if _UNESCAPED.match(statement[0]):
            line, column = place(source, statement.start())
            raise Refused(
                name, "Unescaped", "escaping cannot be turned off; use the filter safe", line=line, column=column
            )
        if private := _PRIVATE.search(statement[0]):
            line, column = place(source, statement.start() + private.start())
            raise Refused(name, "PrivateName", "names that begin with _ cannot be read", line=line, column=column)


def refused(part: str, error: TemplateError, source: str | None = None) -> Refused:
    detail = error.detail or {"OutOfFuel": "it takes too many steps"}.get(error.kind, error.kind)
    line, column = error.line, None
    if source is not None and error.range is not None:
        prefix = source.encode()[: error.range[0]].decode(errors="replace")
        line, column = place(source, len(prefix))
    return Refused(part, error.kind, detail, line=line, column=column)


def place(source: str, offset: int) -> tuple[int, int]:
    """Line and column from 1 of a character."""
    before = source[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _supply(data: dict[str, Any], name: str) -> bool:
    """Puts an empty text where a missing variable was looked for; False when the path is not made of names."""
    *path, last = re.split(r"\.", name)
    at = data
    for step in path:
        if not isinstance(at.get(step), dict):
            at[step] = {}
        at[step] = dict(at[step])
        at = at[step]
    if not last.isidentifier():
        return False
    at[last] = ""
    return True
