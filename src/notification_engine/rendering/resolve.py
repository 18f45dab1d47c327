"""Draws layouts and partials into one source, at publish: `{% extends "key" %}` with blocks, `{% include "key" %}`.

Static and by literal key, so that what is published depends on nothing that may change later.
"""

import re
from collections.abc import Callable, Mapping

from notification_engine.domain.template import MAX_LIBRARY, MAX_PART_BYTES
from notification_engine.rendering.mask import JINJA

MAX_SOURCE_BYTES = 4 * MAX_PART_BYTES
_KEY = r"""(?:"([^"]*)"|'([^']*)')"""
_EXTENDS = re.compile(rf"\{{%[-+]?\s*extends\s+{_KEY}\s*[-+]?%\}}")
_INCLUDE = re.compile(rf"\{{%[-+]?\s*include\s+{_KEY}\s*[-+]?%\}}")
_DYNAMIC = re.compile(r"\{%[-+]?\s*(extends|include|import|from)\b")
_BLOCK = re.compile(r"\{%[-+]?\s*block\s+(\w+)(?:\s+\w+)?\s*[-+]?%\}")
_END = re.compile(r"\{%[-+]?\s*endblock(?:\s+\w+)?\s*[-+]?%\}")
_SUPER = re.compile(r"\{\{[-+]?\s*super\(\)\s*[-+]?\}\}")

Lookup = Callable[[str], str | None]


class Unresolved(ValueError):
    """A reference that leads nowhere, in a circle, or is no literal key. The text is for the author."""


def resolve(source: str, lookup: Lookup, path: tuple[str, ...] = ()) -> str:
    """One source without references. `lookup` gives the same part of another template, None when it has none.

    Raises Unresolved."""
    blocks: dict[str, str] = {}
    while (parent := _parent(source)) is not None:
        for name, content in _own_blocks(source).items():
            blocks[name] = _with_super(blocks[name], content) if name in blocks else content
        source, path = _found(parent, lookup, path), (*path, parent)
    return _included(_without_blocks(_override(source, blocks)), lookup, path)


def _parent(source: str) -> str | None:
    found = _EXTENDS.search(source)
    return (found[1] or found[2]) if found else None


def _found(key: str, lookup: Lookup, path: tuple[str, ...]) -> str:
    if key in path or len(path) >= MAX_LIBRARY:
        raise Unresolved(f"a circle of templates: {' → '.join([*path, key])}")
    source = lookup(key)
    if source is None:
        raise Unresolved(f"{key!r} is not published or lacks this part")
    return source


def _included(source: str, lookup: Lookup, path: tuple[str, ...]) -> str:
    def drawn(match: re.Match[str]) -> str:
        key = match[1] or match[2]
        return resolve(_found(key, lookup, path), lookup, (*path, key))

    source = _INCLUDE.sub(drawn, source)
    if len(source) > MAX_SOURCE_BYTES:
        raise Unresolved(f"with its layouts and partials it is larger than {MAX_SOURCE_BYTES // 1024} KiB")
    if left := _DYNAMIC.search(source):
        raise Unresolved(f"`{left[1]}` takes one literal key; import is not offered")
    return source


def _own_blocks(source: str) -> dict[str, str]:
    """Every block by name with its content; nested ones stand in their outer one as well."""
    found: dict[str, str] = {}
    open_at: list[tuple[str, int]] = []
    for tag in JINJA.finditer(source):
        if start := _BLOCK.fullmatch(tag[0]):
            open_at.append((start[1], tag.end()))
        elif _END.fullmatch(tag[0]) and open_at:
            name, begin = open_at.pop()
            found[name] = source[begin : tag.start()]
    return found


def _override(source: str, blocks: Mapping[str, str]) -> str:
    """The contents of blocks replaced, outer ones first; the block tags stay."""
    pieces: list[str] = []
    at = depth = begin = 0
    name = ""
    for tag in JINJA.finditer(source):
        if start := _BLOCK.fullmatch(tag[0]):
            depth += 1
            if depth == 1:
                name, begin = start[1], tag.end()
        elif _END.fullmatch(tag[0]):
            depth -= 1
            if depth == 0:
                pieces += [source[at:begin], _content(source[begin : tag.start()], name, blocks)]
                at = tag.start()
    return "".join(pieces) + source[at:]


def _content(own: str, name: str, blocks: Mapping[str, str]) -> str:
    content = _with_super(blocks[name], own) if name in blocks else own
    return _override(content, {other: block for other, block in blocks.items() if other != name})


def _with_super(block: str, parent: str) -> str:
    return block if block == parent else _SUPER.sub(lambda _: parent, block)


def _without_blocks(source: str) -> str:
    return JINJA.sub(lambda tag: "" if _BLOCK.fullmatch(tag[0]) or _END.fullmatch(tag[0]) else tag[0], source)
