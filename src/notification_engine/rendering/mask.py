"""Hides Jinja tags from the parsers of MJML, CSS and HTML, which would move, escape or drop them.

An expression becomes a word, which survives in text, attributes and CSS alike. A statement in text becomes a comment,
and so does an expression between the rows of a table: text there would be moved out of the table, a comment stays where
it is. Jinja comments are dropped.
"""

import re

JINJA = re.compile(
    r"""\{\#.*?\#\}"""
    r"""|\{%(?:[^"'%]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|%(?!\}))*%\}"""
    r"""|\{\{(?:[^"'}]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\}(?!\}))*\}\}""",
    re.DOTALL,
)
_STEP = re.compile(rf"(?P<jinja>{JINJA.pattern})|<!--|-->|</?[a-zA-Z!][\w-]*|[>\"']", re.DOTALL)
_TABLE = ("table", "mj-table", "thead", "tbody", "tfoot", "tr")
_BETWEEN_ROWS = frozenset({f"<{n}" for n in _TABLE} | {f"</{n}" for n in (*_TABLE[2:], "td", "th")})
_IN_CELL = frozenset({"<td", "<th", "</table", "</mj-table"})


class Masked:
    """`source` is safe to hand to a parser; `restore` puts the tags back into what came of it."""

    def __init__(self, source: str) -> None:
        self._word = "zq"
        while self._word in source.lower():
            self._word += "q"
        self._tags: list[str] = []
        # Comments of ours have another end: a mark within a comment of the author's must leave that one alone.
        self._comment = re.compile(rf"<!--{self._word}\d+c-->", re.IGNORECASE)
        self._marks = re.compile(rf"<!--{self._word}(\d+)c-->|{self._word}(\d+)z(?:=\"\")?", re.IGNORECASE)
        self.source = self._hide(source)

    def restore(self, markup: str) -> str:
        return self._marks.sub(lambda m: self._tags[int(m[1] or m[2])], markup)

    def is_mark(self, comment: str) -> bool:
        """Whether an HTML comment is one of ours."""
        return self._comment.fullmatch(comment) is not None

    def _hide(self, source: str) -> str:
        context = _Context()
        pieces: list[str] = []
        at = 0
        for step in _STEP.finditer(source):
            pieces.append(source[at : step.start()])
            at = step.end()
            text = step[0]
            if step["jinja"] is None:
                context.enter(text)
                pieces.append(text)
            elif not text.startswith("{#"):
                pieces.append(self._mark(text, context))
        return "".join(pieces) + source[at:]

    def _mark(self, tag: str, context: "_Context") -> str:
        self._tags.append(tag)
        word = f"{self._word}{len(self._tags) - 1}"
        if tag.startswith("{%") and context.is_tag:
            return f' {word}z="" '  # an attribute of its own, or it would run into its neighbour
        as_comment = context.is_text and (tag.startswith("{%") or context.between_rows)
        return f"<!--{word}c-->" if as_comment else f"{word}z"


class _Context:
    """Where in the markup a Jinja tag stands."""

    def __init__(self) -> None:
        self._inside = ""  # "", "tag", '"', "'", "comment", "style", "style-tag"
        self._outside_quote = ""
        self.between_rows = False

    @property
    def is_text(self) -> bool:
        return self._inside == ""

    @property
    def is_tag(self) -> bool:
        return self._inside in {"tag", "style-tag"}

    def enter(self, step: str) -> None:
        inside = self._inside
        if inside == "comment":
            self._inside = "" if step == "-->" else inside
        elif inside == "style":
            self._inside = "tag" if step.lower() == "</style" else inside
        elif inside in {'"', "'"}:
            self._inside = self._outside_quote if step == inside else inside
        elif inside in {"tag", "style-tag"}:
            if step == ">":
                self._inside = "style" if inside == "style-tag" else ""
            elif step in {'"', "'"}:
                self._outside_quote, self._inside = inside, step
        elif step == "<!--":
            self._inside = "comment"
        elif step.startswith("<"):
            name = step.lower()
            self._inside = "style-tag" if name == "<style" else "tag"
            self.between_rows = name in _BETWEEN_ROWS or (self.between_rows and name not in _IN_CELL)
