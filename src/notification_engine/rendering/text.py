"""From HTML to a text part that reads well: paragraphs, lists, tables of data, links with their address."""

import re
from collections.abc import Callable
from html.parser import HTMLParser

_BLOCKS = frozenset({"p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "blockquote", "section"})
_SKIPPED = frozenset({"head", "style", "script", "title", "noscript"})
_VOID = frozenset({"br", "img", "hr", "meta", "link", "input", "col", "area", "base", "wbr"})
_SPACES = re.compile(r"[ \t\r\xa0]+")
_LINE_ENDS = re.compile(r" ?\n ?")
_EMPTY_LINES = re.compile(r"\n{3,}")
_HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)


def text_of(markup: str, is_mark: Callable[[str], bool] = lambda comment: False) -> str:
    """`is_mark` tells which HTML comments stand for statements and have to stay."""
    reader = _Reader(is_mark)
    reader.feed(markup)
    reader.close()
    return tidy("".join(reader.pieces)) + "\n"


def tidy(text: str) -> str:
    """No trailing spaces, at most one empty line in a row."""
    text = _LINE_ENDS.sub("\n", _SPACES.sub(" ", text))
    return _EMPTY_LINES.sub("\n\n", text).strip()


class _Reader(HTMLParser):
    def __init__(self, is_mark: Callable[[str], bool]) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._is_mark = is_mark
        self._skipped: list[str] = []  # open elements from the first skipped one on
        self._links: list[tuple[str, int]] = []
        self._cells = 0
        self._data_tables: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self._skipped or tag in _SKIPPED or _HIDDEN.search(given.get("style", "")):
            if tag not in _VOID:
                self._skipped.append(tag)
            return
        if tag == "table":
            self._data_tables.append(given.get("role") != "presentation")
        self._begin(tag, given)

    def _begin(self, tag: str, given: dict[str, str]) -> None:
        if tag == "a":
            self._links.append((given.get("href", ""), len(self.pieces)))
        elif tag == "br":
            self.pieces.append("\n")
        elif tag == "hr":
            self.pieces.append("\n\n----\n\n")
        elif tag == "img":
            self.pieces.append(given.get("alt", ""))
        elif tag == "li":
            self.pieces.append("\n- ")
        elif tag == "tr":
            self._cells = 0
            self.pieces.append("\n")
        elif tag in {"td", "th"}:
            self._cell()
        elif tag in _BLOCKS:
            self.pieces.append("\n\n")

    def _cell(self) -> None:
        """Cells of a data table stand side by side, the first as a name; those of a table for layout are blocks."""
        if not (self._data_tables and self._data_tables[-1]):
            self.pieces.append("\n")
        elif self._cells:
            self.pieces.append(": " if self._cells == 1 else ", ")
        self._cells += 1

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            if tag in self._skipped:
                while self._skipped.pop() != tag:
                    pass
            return
        if tag == "table" and self._data_tables:
            self._data_tables.pop()
        if tag == "a" and self._links:
            self._end_link(*self._links.pop())
        elif tag in _BLOCKS:
            self.pieces.append("\n\n")

    def _end_link(self, href: str, start: int) -> None:
        label = "".join(self.pieces[start:]).strip()
        address = href.removeprefix("mailto:")
        if address and address != label:
            self.pieces.append(f": {address}" if label else address)

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.pieces.append(re.sub(r"\s+", " ", data))

    def handle_comment(self, data: str) -> None:
        if self._is_mark(f"<!--{data}-->"):
            self.pieces.append(f"<!--{data}-->")
