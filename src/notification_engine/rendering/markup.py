"""MJML to HTML, and CSS into the elements, with every Jinja tag intact. Nothing is fetched: includes, remote style
sheets and fonts are off."""

import re
from functools import lru_cache

import css_inline
import mrml

from notification_engine.rendering.mask import Masked
from notification_engine.rendering.text import text_of

_NAMES = """
    mjml mj-head mj-body mj-attributes mj-all mj-class mj-breakpoint mj-font mj-html-attributes mj-selector
    mj-html-attribute mj-preview mj-style mj-title mj-raw mj-section mj-column mj-group mj-wrapper mj-hero mj-text
    mj-button mj-image mj-divider mj-spacer mj-table mj-social mj-social-element mj-navbar mj-navbar-link
    mj-accordion mj-accordion-element mj-accordion-title mj-accordion-text mj-carousel mj-carousel-image
"""
_TAGS = frozenset(_NAMES.split())
_ELEMENT = re.compile(r"<!--.*?-->|<(/?)(mjml|mj-[\w-]*)((?:\"[^\"]*\"|'[^']*'|[^>\"'])*?)(/?)>", re.DOTALL)


class MarkupError(ValueError):
    """`offset` counts characters of the source that was given; None where mrml does not tell."""

    def __init__(self, detail: str, offset: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.offset = offset


def html_of_mjml(masked: Masked) -> str:
    """Raises MarkupError."""
    try:
        output = mrml.to_html(masked.source, mrml.ParserOptions(), mrml.RenderOptions(fonts={}))
    except OSError as error:
        raise MarkupError(f"MJML: {error}") from None
    return _inlined(output.content)


def html_of_html(masked: Masked) -> str:
    return _inlined(masked.source)


def compiled(markup: str, *, is_mjml: bool) -> tuple[str, str]:
    """The HTML template and the text template made from it. Raises MarkupError."""
    masked = Masked(markup)
    html = html_of_mjml(masked) if is_mjml else html_of_html(masked)
    return masked.restore(html), masked.restore(text_of(html, masked.is_mark))


def _inlined(html: str) -> str:
    try:
        return _inliner().inline(html)
    except (css_inline.InlineError, ValueError) as error:
        raise MarkupError(f"CSS: {error}") from None


@lru_cache(maxsize=1)
def _inliner() -> css_inline.CSSInliner:
    """What cannot be inlined (media queries, selectors of clients) stays in style elements."""
    return css_inline.CSSInliner(
        keep_style_tags=True, keep_at_rules=True, remove_inlined_selectors=True, load_remote_stylesheets=False
    )


def check_mjml(source: str, *, whole: bool) -> None:
    """Names and nesting of MJML elements, which mrml would pass over in silence. `whole`: with its `<mjml>`.

    Raises MarkupError with an offset.
    """
    open_tags: list[tuple[str, int]] = []
    for element in _ELEMENT.finditer(source):
        closing, name, _, single = element.groups()
        if name is None or single:
            _known(name, element.start())
        elif not closing:
            _known(name, element.start())
            open_tags.append((name, element.start()))
        elif not open_tags or open_tags[-1][0] != name:
            wanted = f"</{open_tags[-1][0]}>" if open_tags else "no closing tag"
            raise MarkupError(f"MJML: </{name}> where {wanted} was expected", element.start())
        else:
            open_tags.pop()
    if open_tags:
        raise MarkupError(f"MJML: <{open_tags[-1][0]}> is never closed", open_tags[-1][1])
    if whole and not re.search(r"<mj-body\b", source):
        raise MarkupError("MJML: <mjml> with an <mj-body> is needed", 0)


def _known(name: str | None, offset: int) -> None:
    if name == "mj-include":
        raise MarkupError('MJML: mj-include is off; use {% include "key" %}', offset)
    if name is not None and name not in _TAGS:
        raise MarkupError(f"MJML: there is no <{name}>", offset)
