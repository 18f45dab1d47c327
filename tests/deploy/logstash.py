"""An interpreter of the part of Logstash's language that `deploy/logstash/logstash.conf` uses.

Invariant: what it does not know it refuses, so the file cannot hold a plugin or an option that no test has followed.
Grammar and semantics: Logstash Reference, "Structure of a pipeline", "Accessing event data", mutate, file, json codec.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Event = dict[str, Any]
TOKEN = re.compile(r'\s*(?:#[^\n]*\s*)*("(?:[^"\\]|\\.)*"|=>|==|[{}\[\],]|[\w.+-]+)')
OPTIONS = {
    "input/file": {"path", "codec"},
    "filter/mutate": {"add_tag"},
    "output/elasticsearch": {"hosts", "index"},
}


@dataclass(frozen=True)
class Plugin:
    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class If:
    """`[field] == "value"`."""

    field: str
    value: str
    then: Sequence["Plugin | If"]


Pipeline = dict[str, Sequence[Plugin | If]]


def parse(text: str) -> Pipeline:
    """Sections by name. Raises ValueError for what is not of this grammar or not known."""
    return _Parser(text).pipeline()


def event(plugin: Plugin, line: str) -> Event:
    """What the file input makes of a line with the codec json: one that is no object is kept, and tagged."""
    if plugin.options["codec"] != "json":
        raise ValueError(f"codec {plugin.options['codec']}")
    made: Event = {"@timestamp": datetime.now(UTC), "tags": []}
    try:
        read = json.loads(line)
    except json.JSONDecodeError:
        read = None
    return made | read if isinstance(read, dict) else made | {"message": line, "tags": ["_jsonparsefailure"]}


def filtered(steps: Sequence[Plugin | If], given: Event) -> Event:
    for step in steps:
        if isinstance(step, If):
            given = filtered(step.then, given) if given.get(step.field) == step.value else given
        else:
            tags = [tag for tag in step.options["add_tag"] if tag not in given["tags"]]
            given = given | {"tags": [*given["tags"], *tags]}
    return given


def index(plugin: Plugin, given: Event) -> str:
    """`%{+FORMAT}` is the event's @timestamp in UTC, in Joda's letters."""

    def date(found: re.Match[str]) -> str:
        form = found[1].replace("YYYY", "%Y").replace("MM", "%m").replace("dd", "%d")
        if re.search(r"(?<!%)[A-Za-z]", form):
            raise ValueError(f"date format {found[1]}")
        return str(given["@timestamp"].strftime(form))

    return re.sub(r"%\{\+([^}]+)\}", date, plugin.options["index"])


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        place, text = 0, text.rstrip()
        while place < len(text):
            found = TOKEN.match(text, place)
            if found is None:
                raise ValueError(f"not understood: {text[place : place + 30]!r}")
            self._tokens.append(found[1])
            place = found.end()

    def pipeline(self) -> Pipeline:
        sections: Pipeline = {}
        while self._tokens:
            name = self._next()
            if name not in {"input", "filter", "output"} or name in sections:
                raise ValueError(f"section {name}")
            sections[name] = self._steps(name)
        return sections

    def _steps(self, section: str) -> list[Plugin | If]:
        self._next("{")
        steps: list[Plugin | If] = []
        while self._tokens[0] != "}":
            name = self._next()
            steps.append(self._if(section) if name == "if" else self._plugin(section, name))
        self._next("}")
        return steps

    def _if(self, section: str) -> If:
        self._next("[")
        field = self._next()
        self._next("]")
        self._next("==")
        return If(field, json.loads(self._next()), self._steps(section))

    def _plugin(self, section: str, name: str) -> Plugin:
        known = OPTIONS.get(f"{section}/{name}")
        if known is None:
            raise ValueError(f"plugin {section}/{name}")
        self._next("{")
        options: dict[str, Any] = {}
        while self._tokens[0] != "}":
            option = self._next()
            if option not in known or option in options:
                raise ValueError(f"option {option} of {name}")
            self._next("=>")
            options[option] = self._value()
        self._next("}")
        return Plugin(name, options)

    def _value(self) -> Any:
        if self._tokens[0] != "[":
            word = self._next()
            return json.loads(word) if word.startswith('"') else word
        self._next("[")
        values = []
        while self._tokens[0] != "]":
            values.append(self._value())
            if self._tokens[0] == ",":
                self._next(",")
        self._next("]")
        return values

    def _next(self, wanted: str | None = None) -> str:
        word = self._tokens.pop(0) if self._tokens else "the end"
        if wanted is not None and word != wanted:
            raise ValueError(f"{word} instead of {wanted}")
        return word
